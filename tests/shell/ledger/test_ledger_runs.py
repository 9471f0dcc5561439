"""Which run the same command goes on with, and when it begins a new one."""

from dataclasses import replace
from typing import Any

import pytest
from ledger_entries import (
    KEY,
    PACE,
    HandClock,
    begin,
    finish,
    registration,
    rows,
    send,
)

from engine.errors import ExitStatus, UsageError
from engine.ledger.records import RunKey, RunState
from engine.ledger.sqlite.ledger import Ledger
from engine.model.cohort import Action, Cohort


async def test_a_first_run_begins_at_the_start(ledger: Ledger) -> None:
    state = await begin(ledger)
    assert (state.execution, state.next_batch, state.is_resumed) == (1, 1, False)
    assert (state.largest_accepted, state.isolation_requests) == (0, 0)
    assert rows(ledger.path, "SELECT name, status FROM run") == [(state.run.name, "running")]


@pytest.mark.parametrize("status", ["incomplete", "refused", "source_failed", "failed"])
async def test_an_unfinished_run_goes_on(ledger: Ledger, status: str) -> None:
    first = await begin(ledger)
    await finish(ledger, first, status)
    second = await begin(ledger)
    assert (second.run, second.execution) == (first.run, 2)
    assert second.is_resumed
    [output] = rows(ledger.path, "SELECT status, exit_status, reason, finished_utc_ns FROM run")
    assert output == ("running", None, None, None)


@pytest.mark.parametrize("status", ["finished", "abandoned", "unbalanced"])
async def test_a_finished_run_does_not_go_on(ledger: Ledger, status: str) -> None:
    first = await begin(ledger)
    await finish(ledger, first, status)
    second = await begin(ledger)
    assert second.run != first.run
    assert not second.is_resumed


async def test_a_run_whose_process_died_goes_on(ledger: Ledger) -> None:
    first = await begin(ledger)
    await ledger.recover()
    assert rows(ledger.path, "SELECT status FROM run") == [("incomplete",)]
    assert (await begin(ledger)).run == first.run


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "http://127.0.0.1:9999"},
        {"workspace": "OTHER"},
        {"partner": "other"},
        {"cohort": Cohort("cohort-2", "Buyers")},
        {"action": Action.REMOVE},
        {"source_identity": {"files": ["/data/export.csv"], "strip": True}},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_another_target_or_another_export_is_another_run(
    ledger: Ledger, change: dict[str, Any]
) -> None:
    first = await begin(ledger)
    await finish(ledger, first)
    other = await begin(ledger, replace(KEY, **change))
    assert other.run != first.run
    await finish(ledger, other)
    assert (await begin(ledger)).run == first.run


async def test_the_cohort_may_be_renamed_between_executions(ledger: Ledger) -> None:
    first = await begin(ledger)
    await finish(ledger, first)
    renamed = replace(KEY, cohort=Cohort("cohort-1", "All buyers", "since 2020"))
    assert (await begin(ledger, renamed)).run == first.run
    names = rows(ledger.path, "SELECT cohort_name, cohort_description FROM run")
    assert names == [("All buyers", "since 2020")]


async def test_the_order_of_keys_in_an_identity_does_not_matter(ledger: Ledger) -> None:
    first = await begin(ledger, replace(KEY, source_identity={"a": 1, "b": {"c": 2, "d": 3}}))
    await finish(ledger, first)
    again = await begin(ledger, replace(KEY, source_identity={"b": {"d": 3, "c": 2}, "a": 1}))
    assert again.run == first.run


async def test_a_restart_closes_the_old_run_as_abandoned(ledger: Ledger) -> None:
    first = await begin(ledger)
    await finish(ledger, first)
    second = await begin(ledger, restart=True)
    assert second.run != first.run
    assert not second.is_resumed
    statuses = rows(ledger.path, "SELECT status FROM run ORDER BY run")
    assert statuses == [("abandoned",), ("running",)]


OTHER_EXPORT = replace(KEY, source_identity={"files": ["/data/later.csv"]})


async def overtaken(ledger: Ledger, clock: HandClock, by: RunKey, *, sends: bool) -> RunState:
    """Leave a run unfinished, and let a later one touch a cohort."""
    first = await begin(ledger)
    await finish(ledger, first)
    later = await begin(ledger, by)
    if sends:
        await send(ledger, later, 1, clock, [registration(1, 0, 10, is_last=True)])
    await ledger.runs.finish(later, "finished", ExitStatus.ACCEPTED, None, PACE)
    return first


@pytest.mark.parametrize("action", Action)
async def test_a_run_does_not_go_on_over_a_later_one(
    ledger: Ledger, clock: HandClock, action: Action
) -> None:
    first = await overtaken(ledger, clock, replace(OTHER_EXPORT, action=action), sends=True)
    with pytest.raises(UsageError) as caught:
        await begin(ledger)
    later = rows(ledger.path, "SELECT name FROM run WHERE run <> ?", first.run.number)[0][0]
    assert first.run.name in caught.value.message
    assert later in caught.value.message
    assert caught.value.hint
    # Nothing came of the attempt, and asking for it begins anew.
    assert rows(ledger.path, "SELECT count(*) FROM sitting") == [(2,)]
    again = await begin(ledger, restart_if_overtaken=True)
    assert again.run != first.run
    assert not again.is_resumed
    assert rows(ledger.path, "SELECT status FROM run WHERE run = ?", first.run.number) == [
        ("abandoned",)
    ]


@pytest.mark.parametrize(
    ("by", "sends"),
    [
        (OTHER_EXPORT, False),
        (replace(OTHER_EXPORT, cohort=Cohort("cohort-2", "Buyers")), True),
        (replace(OTHER_EXPORT, partner="other"), True),
    ],
    ids=["sent nothing", "another cohort", "another partner"],
)
async def test_a_later_run_that_did_not_touch_the_cohort_is_no_obstacle(
    ledger: Ledger, clock: HandClock, by: RunKey, *, sends: bool
) -> None:
    first = await overtaken(ledger, clock, by, sends=sends)
    assert (await begin(ledger)).run == first.run
