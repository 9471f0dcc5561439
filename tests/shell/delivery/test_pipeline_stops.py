"""Every stop is a drain: nothing more leaves, what is under way ends, and all of it is recorded."""

from pathlib import Path

import pytest
from ledger_entries import rows
from stage import (
    OK,
    Answer,
    Api,
    Stage,
    accept,
    numbered,
)

from engine.delivery.events import Stopping
from engine.delivery.settings import DeliverySettings
from engine.errors import ExitStatus
from engine.pacing.settings import PacingSettings
from engine.report.accounts import Standing


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Return a hundred uids in ten batches, and an API that accepts them."""
    return Stage(tmp_path, numbered(100), Api())


def test_a_stop_waits_for_what_is_under_way_and_sends_nothing_more(stage: Stage) -> None:
    stage.api.script = lambda _: Answer(OK, applies=True, seconds=5)
    execution = stage.run(stops_at=[6])
    sent = len(stage.api.requests)
    assert sent > 2
    assert all(request.at <= 6.1 for request in stage.api.requests)
    assert execution.exit_status is ExitStatus.INCOMPLETE
    assert execution.accounts.uids.accepted == 10 * sent
    assert execution.accounts.uids.unconfirmed == 0
    assert execution.accounts.imbalance is None
    assert [e.reason for e in execution.events if isinstance(e, Stopping)] == ["a signal"]


def test_an_intent_that_was_not_sent_is_known_not_to_be(stage: Stage) -> None:
    stage.pacing = PacingSettings(1, 100)
    execution = stage.run(stops_at=[100.1])
    assert len(stage.api.requests) == 1
    assert execution.accounts.uids.accepted == 10
    assert execution.accounts.uids.unconfirmed == 0
    assert execution.accounts.uids.pending == execution.accounts.uids.planned - 10
    assert execution.accounts.requests.sent == 1
    (first, *others) = rows(stage.path, "SELECT outcome FROM attempt ORDER BY id")
    assert first == ("accepted",)
    assert others
    assert set(others) == {("not_sent",)}


@pytest.mark.parametrize("stops_at", [[6, 7], [6, 6], [6, 6.05, 6.1]])
def test_a_second_stop_cancels_what_is_under_way(stage: Stage, stops_at: list[float]) -> None:
    stage.api.script = lambda request: Answer(
        OK, applies=True, seconds=0.1 if request.number == 1 else 3600
    )
    stage.delivery = DeliverySettings(drain_seconds=1_000_000)
    execution = stage.run(stops_at=stops_at)
    cancelled = len(stage.api.requests) - 1
    assert cancelled > 2
    assert execution.accounts.uids.accepted == 10
    assert execution.accounts.uids.unconfirmed == 10 * cancelled
    assert execution.accounts.imbalance is None
    stage.api.script = accept
    assert stage.run().accounts.uids == Standing(100, accepted=100)


def test_a_drain_does_not_last_forever(stage: Stage) -> None:
    stage.api.script = lambda request: Answer(
        OK, applies=True, seconds=0.1 if request.number == 1 else 3600
    )
    stage.delivery = DeliverySettings(drain_seconds=20)
    execution = stage.run(stops_at=[6])
    assert execution.accounts.uids.unconfirmed == 10 * (len(stage.api.requests) - 1) > 0
    assert execution.accounts.imbalance is None


@pytest.mark.parametrize("at", [0, 0.001, 0.012, 0.1, 0.2, 0.4, 1.0, 1.9])
@pytest.mark.parametrize("stops", [1, 2, 3])
def test_a_stop_at_any_moment_leaves_accounts_that_balance(
    stage: Stage, at: float, stops: int
) -> None:
    execution = stage.run(stops_at=[at] * stops)
    assert execution.accounts.imbalance is None
    assert len(stage.api.acknowledged) <= execution.accounts.uids.accepted + (
        execution.accounts.uids.unconfirmed
    )
    assert stage.run().accounts.uids == Standing(100, accepted=100)
    assert stage.api.members == set(stage.export.uids)
