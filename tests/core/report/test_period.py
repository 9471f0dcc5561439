"""What a period has changed, and the verdict on cohorts that ran more than once."""

from dataclasses import replace

import pytest

from engine.report.accounts import Accounts, MirrorFigures, Standing
from engine.report.cohort_periods import put_together
from engine.report.formats import attempts_in_words, reason_of, result_of, short_moment, sums_of
from engine.report.period import CohortPeriod, FailedAttempt
from period_reports import NOW, accounts, cohort, report

MINUTE = 60 * 10**9


def mirrored(run: str, **figures: object) -> Accounts:
    found = MirrorFigures(unchanged=100, **figures)  # type: ignore[arg-type]
    uids = found.add + found.remove
    return replace(accounts("VIP"), run=run, mirror=found, uids=uids, started_at=run)


def end(status: str, exit_status: int | None, minute: int | None, *runs: Accounts) -> CohortPeriod:
    """Return an end of the cohort at a minute; None: it runs."""
    return replace(
        cohort("VIP", exit_status),
        status=status,
        started_utc_ns=NOW,
        finished_utc_ns=None if minute is None else NOW + minute * MINUTE,
        run=runs[0].run if runs else None,
        mode="mirror" if runs else None,
        runs=runs,
        reason=status,
    )


FULL = mirrored("1", add=Standing(50, 50), remove=Standing(9, 9))
NOTHING = mirrored("2")
PART = mirrored("1", add=Standing(50, 30, pending=20))
REST = mirrored("2", add=Standing(20, 20), remove=Standing(9, 9))
GUARDED = mirrored("1", remove=Standing(90, pending=90))
POISON = mirrored("1", add=Standing(50, 49, 1))
POISON_LEFT_ALONE = mirrored("2", add=Standing(1, 0, 1), known_rejects=1)
DONE, BLOCKED, STOPPED = ("finished", 0), ("guarded", 4), ("incomplete", 75)


@pytest.mark.parametrize(
    ("ends", "status", "result", "failed", "verdict"),
    [
        (
            [end(*DONE, 1, FULL), end("up_to_date", 0, 2)],
            *("up_to_date", "up to date, 50 added, 9 removed, 100 unchanged", []),
            "The cohort is done.",
        ),
        (
            [end(*DONE, 1, FULL), end(*DONE, 2, NOTHING)],
            *("finished", "50 added, 9 removed, 100 unchanged", []),
            "The cohort is done.",
        ),
        (
            [end("missing", 2, 1), end(*DONE, 2, FULL)],
            *("finished", "50 added, 9 removed, 100 unchanged", ["missing"]),
            "The cohort is done, after a failed attempt.",
        ),
        (
            [end(*STOPPED, 1, PART), end(*DONE, 2, REST)],
            *("finished", "50 added, 9 removed, 100 unchanged", ["incomplete"]),
            "The cohort is done, after a failed attempt.",
        ),
        (  # A push is continued in the same run.
            [replace(end(*STOPPED, 1), run="1"), end(*DONE, 2, FULL)],
            *("finished", "50 added, 9 removed, 100 unchanged", ["incomplete"]),
            "The cohort is done, after a failed attempt.",
        ),
        (
            [end(*BLOCKED, 1, GUARDED), end(*DONE, 2, REST)],
            *("finished", "20 added, 9 removed, 100 unchanged", ["guarded"]),
            "The cohort is done, after a failed attempt.",
        ),
        (
            [end(*DONE, 1, FULL), end(*BLOCKED, 2, replace(GUARDED, started_at="2", run="2"))],
            "guarded",
            "stopped by a guard, 50 added, 9 removed, 100 unchanged, 90 not sent",
            [],
            "The cohort needs attention.",
        ),
        (  # The second process began later, and ended first.
            [end(*DONE, 9, FULL), end("failed", 75, 3)],
            *("finished", "50 added, 9 removed, 100 unchanged", ["failed"]),
            "The cohort is done, after a failed attempt.",
        ),
        (
            [end("running", None, None, PART), end("failed", 75, 3)],
            *("running", "running, 30 added, 100 unchanged, 20 not sent", ["failed"]),
            "The cohort needs attention.",
        ),
        (
            [end("finished", 1, 1, POISON), end("finished", 0, 2, POISON_LEFT_ALONE)],
            *("finished", "49 added, 100 unchanged, 1 rejected", []),
            "The cohort is done.",
        ),
        (
            [end("abandoned", None, 1, PART), end(*DONE, 2, REST)],
            *("finished", "50 added, 9 removed, 100 unchanged", []),
            "The cohort is done.",
        ),
    ],
)
def test_a_cohort_is_shown_with_all_its_runs(
    ends: list[CohortPeriod], status: str, result: str, failed: list[str], verdict: str
) -> None:
    [found] = put_together(ends)
    assert (found.status, result_of(found)) == (status, result)
    assert [each.status for each in found.failed_attempts] == failed
    assert report([found]).verdict == verdict
    assert report([found]).change == found.change


def test_runs_of_different_kinds_are_shown_side_by_side() -> None:
    pushed = replace(end(*DONE, 1, FULL), mode="add")
    removed = replace(end(*DONE, 2, NOTHING), mode="remove")
    assert [each.mode for each in put_together([pushed, removed])] == ["add", "remove"]
    assert put_together([end("abandoned", None, 1, PART)]) == []


def test_the_verdict_on_several_cohorts_says_which_have_recovered() -> None:
    recovered = put_together([end("missing", 2, 1), end(*DONE, 2, FULL)])
    well, bad = cohort("A", cohort_id="a"), cohort("B", 4, cohort_id="b")
    verdict = report([*recovered, well]).verdict
    assert verdict == "Both cohorts are done, 1 of them after a failed attempt."
    verdict = report([*recovered, well, bad]).verdict
    assert verdict == "1 of 3 cohorts needs attention; 1 is done after a failed attempt."


def test_attempts_in_a_row_with_one_reason_are_one_line() -> None:
    missing = [FailedAttempt(NOW + each * MINUTE, "missing", 2, "no file", None) for each in (0, 5)]
    guarded = FailedAttempt(NOW + 9 * MINUTE, "guarded", 4, None, "run")
    first, last, blocked = (short_moment(NOW + each * MINUTE) for each in (0, 5, 9))
    assert attempts_in_words([*missing, guarded]) == [
        f"{first} to {last}, 2 times, no export: no file",
        f"{blocked}, stopped by a guard",
    ]
    many = attempts_in_words([guarded, *missing] * 9)
    assert (len(many), many[0]) == (6, "19 earlier attempts")


def test_a_command_is_shown_once() -> None:
    reason = "1 uid rejected: more than `x`; `cohortsync rejects run` lists them"
    found = replace(cohort("VIP", 1), reason=reason)
    assert found.next_step is not None
    assert found.next_step.command == "cohortsync rejects run"
    assert reason_of(found) == "1 uid rejected: more than `x`"


def test_sums_of_a_run_that_sent_nothing_are_no_success() -> None:
    run = replace(accounts("VIP"), status="guarded")
    assert sums_of(replace(run, requests=replace(run.requests, sent=0)))[0] == "○"
    assert sums_of(accounts("VIP")) == ("✓", "the sums balance")
