"""Which problems a cohort has at the end of a sync, and what is new since they were told."""

from dataclasses import replace
from datetime import UTC, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ExitStatus
from engine.ledger.notice_records import GuardState
from engine.ledger.sync_records import SyncRecord
from engine.model.status import CohortStatus, RunStatus
from engine.notices.messages import message_of
from engine.notices.problems import (
    RECOVERY,
    CohortNews,
    CohortPast,
    Problem,
    find_overdue,
    find_problems,
    lasting_problems,
    past_of,
)
from engine.notices.settings import EVENTS, NotifySettings
from engine.report.sync_result import CohortResult
from synced import COHORT, SECOND, ended, forecast, pushed

NOW = 1_700_000_000 * SECOND
DAY = 86_400 * SECOND


def problems(
    result: CohortResult, past: CohortPast | None = None, settings: NotifySettings | None = None
) -> list[str]:
    found = find_problems(result, past or CohortPast(), settings or NotifySettings(), NOW, UTC)
    return [each.key for each in found]


def test_the_names_of_events_are_those_of_problems_and_the_recovery() -> None:
    assert list(EVENTS) == [*(each.value for each in Problem), RECOVERY]


@pytest.mark.parametrize("status", ExitStatus)
def test_each_exit_status_is_at_most_one_problem(status: ExitStatus) -> None:
    expected = {
        ExitStatus.ACCEPTED: [],
        ExitStatus.PARTIAL: ["partial"],
        ExitStatus.USAGE: ["failure 2"],
        ExitStatus.REFUSED: ["failure 3"],
        ExitStatus.GUARDED: ["guard"],
        ExitStatus.UNBALANCED: ["failure 70"],
        ExitStatus.INCOMPLETE: ["incomplete"],
    }
    assert problems(ended(status)) == expected[status]


@pytest.mark.parametrize(
    ("partial_over", "rejected", "is_told"),
    [(None, 1, True), (1, 1, False), (0, 1, True), (0.01, 10, False), (0.01, 11, True)],
)
def test_a_partial_failure_is_told_beyond_its_threshold(
    partial_over: float | None, rejected: int, *, is_told: bool
) -> None:
    result = pushed(1000, rejected=rejected, status=ExitStatus.PARTIAL)
    settings = NotifySettings(partial_over=partial_over)
    assert problems(result, settings=settings) == (["partial"] if is_told else [])


def test_a_threshold_below_the_tolerance_is_told_although_the_exit_status_is_0() -> None:
    settings = NotifySettings(partial_over=0.001)
    assert problems(pushed(1000, rejected=2), settings=settings) == ["partial"]


@pytest.mark.parametrize(
    ("result", "is_late"),
    [
        (ended(ExitStatus.ACCEPTED, forecast=forecast(NOW - 1)), True),
        (ended(ExitStatus.ACCEPTED, forecast=forecast(NOW)), False),
        (ended(ExitStatus.ACCEPTED), False),
        (
            pushed(10, finished_utc_ns=NOW - 60 * SECOND, forecast=forecast(NOW - 30 * SECOND)),
            False,
        ),
        (pushed(10, finished_utc_ns=NOW - 60 * SECOND, forecast=forecast(NOW - 90 * SECOND)), True),
        (ended(CohortStatus.UP_TO_DATE, forecast=forecast(NOW - 1)), False),
    ],
)
def test_a_deadline_is_missed_by_the_time_of_the_end(
    result: CohortResult, *, is_late: bool
) -> None:
    assert ("late" in problems(result)) is is_late


def test_a_cohort_that_would_be_late_and_is_refused_has_one_problem() -> None:
    result = ended(ExitStatus.GUARDED, reason="late: 61 % of 900 requests could be sent")
    assert problems(result) == ["late"]


@pytest.mark.parametrize(
    ("members", "strays"), [(150, False), (151, True), (50, False), (49, True), (None, False)]
)
def test_a_count_strays_from_the_median_of_earlier_syncs(
    members: int | None, *, strays: bool
) -> None:
    past = CohortPast(earlier_members=[9, 9, 100, 101, 99, 100, 5000, 100, 100])
    result = replace(ended(ExitStatus.ACCEPTED), members=members)
    assert ("members" in problems(result, past)) is strays


@pytest.mark.parametrize(("earlier", "strays"), [([], False), ([100], True), ([100, 100], True)])
def test_a_count_strays_in_the_second_sync_already(earlier: list[int], *, strays: bool) -> None:
    """Else a sync that finds the same count again would tell it, some nights late."""
    result = replace(ended(ExitStatus.ACCEPTED), members=151)
    past = CohortPast(earlier_members=earlier)
    assert problems(result, past) == ["members"] * strays


@pytest.mark.parametrize(
    ("past", "is_overdue"),
    [
        (CohortPast(last_success_utc_ns=NOW - DAY), False),
        (CohortPast(last_success_utc_ns=NOW - DAY - SECOND), True),
        (CohortPast(first_utc_ns=NOW - DAY - SECOND), True),
        (CohortPast(last_success_utc_ns=NOW, first_utc_ns=0), False),
        (CohortPast(), False),
    ],
)
def test_a_cohort_is_overdue_by_its_last_success(past: CohortPast, *, is_overdue: bool) -> None:
    daily = replace(COHORT, expect_every=timedelta(days=1))
    assert bool(find_overdue(daily, past, NotifySettings(), NOW, UTC)) is is_overdue
    assert not find_overdue(COHORT, past, NotifySettings(), NOW, UTC)
    assert not find_overdue(replace(daily, is_enabled=False), past, NotifySettings(), NOW, UTC)


def test_events_that_are_left_out_are_no_problems() -> None:
    settings = NotifySettings(events=["failure"])
    assert problems(ended(ExitStatus.GUARDED), settings=settings) == []
    daily = replace(COHORT, expect_every=timedelta(days=1))
    assert not find_overdue(daily, CohortPast(first_utc_ns=0), settings, NOW, UTC)


def test_what_is_known_of_a_cohort_comes_from_its_records_before_this_sync() -> None:
    def record(sync: int, **values: object) -> SyncRecord:
        base = SyncRecord(f"sync-{sync}", "vip", "P", "vip-id", sync, "2026-11-27")
        return replace(base, **values)  # type: ignore[arg-type]

    records = [
        record(1, finished_utc_ns=10, exit_status=0, members=5),
        replace(record(1, finished_utc_ns=11, exit_status=0, members=999), cohort="other"),
        record(2, finished_utc_ns=20, exit_status=4),
        record(3, finished_utc_ns=30, exit_status=1, members=8),
        record(4, finished_utc_ns=40, exit_status=0, members=7),
        # It began last and ended first, since the one before it still worked on the cohort.
        record(5, finished_utc_ns=35, exit_status=75),
        record(6),
    ]
    assert past_of(COHORT, records, {"vip-id": 41}, {}, "sync-4") == CohortPast(
        last_success_utc_ns=41,
        first_utc_ns=1,
        exit_status=0,
        synced_utc_ns=40,
        members=7,
        earlier_members=[5, 8],
    )


def test_the_guard_that_stopped_a_sync_before_its_plan_is_known_by_its_reason() -> None:
    plan = [GuardState("removals", blocks=True, value=9, limit=5), GuardState("age", blocks=False)]
    stopped = SyncRecord("s", "vip", "P", "vip-id", 1, "2026-11-27", finished_utc_ns=2)
    stopped = replace(stopped, status="guarded", exit_status=4, reason="age: 30 h old")
    found = past_of(COHORT, [stopped], {}, {"vip-id": plan}, None).guards
    assert {each.guard: each.blocks for each in found} == {"removals": False, "age": True}
    planned = replace(stopped, run="run", reason="removals: 9 removals")
    assert past_of(COHORT, [planned], {}, {"vip-id": plan}, None).guards == plan


STATES = st.lists(st.sampled_from([*ExitStatus, None]), max_size=12)


@given(STATES)
def test_each_change_of_state_is_told_exactly_once(states: list[ExitStatus | None]) -> None:
    """None: the cohort is not in that sync."""
    told: frozenset[str] = frozenset()
    state: str | None = None
    for status in states:
        result = None if status is None else ended(status)
        findings = (
            []
            if result is None
            else find_problems(result, CohortPast(), NotifySettings(), NOW, UTC)
        )
        lasting = lasting_problems(told) if result is None else frozenset[str]()
        news = CohortNews(COHORT, findings, told, lasting, result)
        message = message_of([news], NotifySettings())
        present = state if result is None else next((each.key for each in findings), None)
        assert (message is not None) is (present != state)
        if message is not None:
            assert message.level == ("success" if present is None else "failure")
        state, told = present, news.present


def test_a_message_has_the_verdict_first_then_cohort_reason_and_command() -> None:
    guarded = ended(ExitStatus.GUARDED, reason="removals: 1,750 of 2,050 (85 %, limit 10 %)")
    guarded = replace(guarded, hint="look at the export")
    findings = find_problems(guarded, CohortPast(), NotifySettings(), NOW, UTC)
    recovered = CohortNews(
        replace(COHORT, key="lapsed", name="Lapsed"), [], frozenset({"guard"}), result=pushed(51)
    )
    message = message_of(
        [recovered, CohortNews(COHORT, findings, result=guarded)], NotifySettings()
    )
    assert message is not None
    assert message.title == "cohortsync: VIP customers needs attention, Lapsed has recovered"
    assert message.body.splitlines() == [
        "✗ VIP customers (vip): stopped, nothing sent: removals: 1,750 of 2,050 (85 %, limit 10 %)",
        "  next: cohortsync sync vip --dry-run (look at the export)",
        "✓ Lapsed (lapsed) has recovered: 51 added",
    ]


def test_a_long_message_names_the_first_cohorts_and_says_how_many_more() -> None:
    failed = ended(ExitStatus.USAGE, reason="x" * 10_000)
    findings = find_problems(failed, CohortPast(), NotifySettings(), NOW, UTC)
    message = message_of([CohortNews(COHORT, findings, result=failed)] * 300, NotifySettings())
    assert message is not None
    assert len(message.body) < 20_000
    assert message.body.endswith("… and 280 more: cohortsync report")
    assert message.title == "cohortsync: 300 cohorts need attention"


def test_a_recovery_is_silent_if_it_is_left_out() -> None:
    news = CohortNews(COHORT, [], frozenset({"guard"}), result=ended(RunStatus.FINISHED))
    assert message_of([news], NotifySettings(events=["guard"])) is None
    assert message_of([news], NotifySettings()) is not None
