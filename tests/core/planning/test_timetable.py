from datetime import UTC, time

from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.settings import Hours, PacingSettings
from engine.planning.timetable import Job, sent_at, timetable

SECOND = 1_000_000_000
FIVE_A_SECOND = HourlyCeiling(PacingSettings(300, 60))
TWO_A_SECOND = HourlyCeiling(PacingSettings(120, 60))


def test_cohorts_are_done_one_after_another_at_the_ceiling() -> None:
    jobs = [Job(300, is_exact=True), Job(600, is_exact=False), Job(0, is_exact=True)]
    found = list(timetable(jobs, FIVE_A_SECOND, 0))
    assert [each.done_utc_ns // SECOND for each in found] == [60, 180, 180]


def test_a_deadline_between_begin_and_end_gives_the_share_that_is_sent() -> None:
    jobs = [Job(300, is_exact=True, deadline_utc_ns=100 * SECOND)]
    jobs += [Job(600, is_exact=True, deadline_utc_ns=120 * SECOND)]
    jobs += [Job(10, is_exact=True, deadline_utc_ns=30 * SECOND)]
    in_time, partly, never = timetable(jobs, FIVE_A_SECOND, 0)
    assert not in_time.is_late
    assert in_time.share_by_deadline == 1
    assert partly.is_late
    assert partly.share_by_deadline == 0.5
    assert never.is_late
    assert never.share_by_deadline == 0


def test_a_wait_for_changes_to_settle_delays_only_its_own_cohort() -> None:
    jobs = [Job(300, is_exact=True, settle_seconds=900), Job(300, is_exact=True)]
    assert [each.done_utc_ns // SECOND for each in timetable(jobs, FIVE_A_SECOND, 0)] == [900, 120]


@given(st.lists(st.integers(0, 10_000), max_size=20), st.integers(0, 100_000))
def test_shares_by_one_deadline_add_up_to_what_the_ceiling_allows(requests, deadline) -> None:
    jobs = [Job(each, is_exact=True, deadline_utc_ns=deadline * SECOND) for each in requests]
    found = list(timetable(jobs, TWO_A_SECOND, 0))
    sent = sum(each.share_by_deadline * each.requests for each in found)
    assert abs(sent - min(sum(requests), deadline / 0.5)) < 1e-6 * (1 + sum(requests))
    done = [each.done_utc_ns for each in found]
    assert done == sorted(done)


def test_the_ceiling_of_each_hour_counts() -> None:
    by_hour = HourlyCeiling(PacingSettings(60, 60, (Hours(time(1), time(2), 30),), UTC))
    hour = 3600 * SECOND
    jobs = [Job(3600, is_exact=True), Job(3600, is_exact=True, deadline_utc_ns=2 * hour)]
    first, second = timetable(jobs, by_hour, 0)
    # The lower ceiling begins and ends a window of a minute further out.
    assert abs(first.done_utc_ns - (hour + 61 * SECOND)) < 2 * SECOND
    assert abs(second.done_utc_ns - (2 * hour + 1800 * SECOND + 61 * SECOND)) < 2 * SECOND
    assert abs(second.share_by_deadline - 0.5) < 0.01


def test_a_plan_in_a_pause_is_sent_after_it() -> None:
    paused = HourlyCeiling(PacingSettings(60, 60, (Hours(time(0), time(2), 0),), UTC))
    two_o_clock = paused.resumes_at(0)
    assert two_o_clock >= 2 * 3600 * SECOND
    assert sent_at(1, paused, 0) == two_o_clock
    assert sent_at(61, paused, 0) == two_o_clock + 60 * SECOND
    assert sent_at(0, paused, 0) == 0
