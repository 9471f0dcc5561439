"""The verdicts on runs and on the cohorts of a sync, for any result and any width."""

import sys
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.cli import sync_summary
from engine.cli.signs import shown_on
from engine.cli.streams import print_lines
from engine.cli.sync_summary import last_line
from engine.cli.verbosity import Verbosity
from engine.cli.verdict import cohort_lines, plan_line, run_lines
from engine.errors import ExitStatus
from engine.model.status import CohortStatus, RunStatus
from engine.report.accounts import (
    Accounts,
    Ceiling,
    CeilingSpending,
    MirrorFigures,
    Requests,
    RowCounts,
    Standing,
)
from engine.report.run_results import RunResult
from engine.report.sync_result import CohortResult, SyncResult

REMOVALS = "removals: 1,750 removals of a cohort of 2,050 (85.4%); at most 205 are allowed"


def accounts(**changed: Any) -> Accounts:  # noqa: ANN401 - any field of the accounts
    fields: dict[str, Any] = {
        "run": "run-1",
        "status": "finished",
        "exit_status": 0,
        "reason": None,
        "target": "EMULATOR",
        "workspace": "W",
        "partner": "p",
        "cohort_id": "vip",
        "cohort_name": "VIP customers",
        "action": "mirror",
        "ceiling": Ceiling(300, 60.0),
        "source_complete": True,
        "rows": RowCounts(2_000),
        "uids": Standing(151, 151),
        "batches": Standing(2, 2),
        "requests": Requests(2, 2),
        "bytes_sent": 9,
        "payload_fill": 0.5,
        "ceiling_use": 1.0,
        "ceiling_spending": CeilingSpending(2.0, 2),
        "ceiling_found": None,
        "margin_seconds": 0.0,
        "started_at": "2026-11-23T02:00:00.000+00:00",
        "finished_at": None,
        "elapsed_seconds": 2.1,
        "mirror": MirrorFigures(unchanged=1_949, add=Standing(51, 51), remove=Standing(100, 100)),
    }
    return Accounts(**fields | changed)


def result_of(found: Accounts, hint: str | None = None) -> RunResult:
    return RunResult(found, ExitStatus(found.exit_status or 0), hint)


def cohort_result(**changed: Any) -> CohortResult:  # noqa: ANN401 - any field of the result
    fields: dict[str, Any] = {
        "cohort": "lapsed",
        "workspace": "default",
        "cohort_id": "lapsed",
        "cohort_name": "Lapsed",
        "mode": "mirror",
        "status": RunStatus.FINISHED,
        "exit_status": ExitStatus.ACCEPTED,
    }
    return CohortResult(**fields | changed)


def test_a_good_run_is_one_line() -> None:
    [line] = run_lines(result_of(accounts()))
    assert line == "✓ VIP customers: 51 added, 100 removed, 1,949 unchanged in 2.1 s"


def test_a_plan_ends_with_one_line() -> None:
    planned = accounts(status="planned", uids=Standing(151, pending=151), requests=Requests())
    plan = {"requests": 2, "seconds_at_ceiling": 0.2, "settle_seconds": 0.0}
    expected = "Plan: 51 to add, 100 to remove, 1,949 unchanged; 2 requests, done in 1 s."
    assert plan_line(planned, plan) == expected
    later = plan | {"seconds_at_ceiling": 61.1}  # In a pause, for example.
    assert plan_line(planned, later).endswith("2 requests, done in 1:02.")
    empty = accounts(
        status="planned", uids=Standing(), requests=Requests(), mirror=MirrorFigures(unchanged=9)
    )
    assert plan_line(empty, plan) == "Plan: nothing to change, 9 unchanged."


def test_a_guard_is_followed_by_the_command_that_lifts_it() -> None:
    command = (
        'cohortsync sync lapsed --allow lapsed:removals=1750 --allow lapsed:shape --reason "why"'
    )
    found = cohort_result(
        status=RunStatus.GUARDED,
        exit_status=ExitStatus.GUARDED,
        reason=REMOVALS,
        hint=f"look at the export; if it is right: {command}",
    )
    assert list(cohort_lines(found)) == [
        f"✗ Lapsed: stopped, nothing sent: {REMOVALS.removeprefix('removals: ')}",
        "  hint: look at the export; if it is right:",
        f"  {command}",
    ]


def test_a_partial_run_says_what_and_names_the_command_that_shows_it() -> None:
    reason = "2 uids rejected: more than …; `cohortsync rejects run-1` lists them"
    found = accounts(
        exit_status=1,
        reason=reason,
        action="add",
        mirror=None,
        uids=Standing(12, 10, 2),
        rows=RowCounts(13, 0, 1),
    )
    assert list(run_lines(result_of(found))) == [
        "! VIP customers: 10 added, 2 rejected, 1 invalid row in 2.1 s",
        f"  {reason}",
    ]


NAMES = st.text(max_size=90) | st.sampled_from(["VIP", "長い名前" * 20, "a b " * 30, "\x1b[2J\n"])
COUNT = st.integers(0, 10**12)


@st.composite
def random_results(draw: st.DrawFn) -> list[CohortResult]:
    found = []
    for number in range(draw(st.integers(0, 4))):
        status: Any = draw(st.sampled_from([*RunStatus, *CohortStatus]))
        exit_status = draw(st.sampled_from([*ExitStatus]))
        reason = draw(st.none() | st.just(REMOVALS) | st.text(max_size=60))
        lifted = 'check the id; if it is right: cohortsync sync a --allow a:name --reason "why"'
        hint = draw(st.none() | st.text(max_size=60) | st.just(lifted))
        name = f"<{number}>{draw(NAMES)}"
        run = None
        if draw(st.booleans()):
            standing = Standing(*(draw(COUNT) for _ in range(5)))
            figures = MirrorFigures(unchanged=draw(COUNT), add=standing, remove=standing)
            run_accounts = accounts(
                status=status.value,
                exit_status=int(exit_status),
                reason=reason,
                cohort_name=name,
                uids=standing,
                mirror=draw(st.none() | st.just(figures)),
                rows=RowCounts(draw(COUNT), 0, draw(COUNT)),
                elapsed_seconds=draw(st.floats(0, 1e6)),
            )
            run = RunResult(run_accounts, exit_status, hint)
        found.append(
            cohort_result(
                cohort=f"key{number}",
                cohort_name=name,
                status=status,
                exit_status=exit_status,
                reason=reason,
                hint=hint,
                run=run,
            )
        )
    return found


class Terminal(StringIO):
    """A terminal in memory."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 120])
@given(results=random_results(), is_verbose=st.booleans())
def test_the_summary_of_any_sync_fits_and_has_each_cohort_once(
    width: int, results: list[CohortResult], *, is_verbose: bool
) -> None:
    shown = Verbosity.VERBOSE if is_verbose else Verbosity.NORMAL
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        patch.setenv("NO_COLOR", "1")
        patch.setattr(sys, "stdout", terminal)
        for each in results:
            sync_summary._print_cohort(each, shown)
        print_lines([last_line(SyncResult("sync-1", 0, 10**9, results))])
    text = terminal.getvalue()
    assert max(map(cell_len, text.splitlines())) <= width
    verdicts = [line for line in text.splitlines() if line[:3] in {"✓ <", "! <", "✗ <", "○ <"}]
    assert [line[2:5] for line in verdicts] == [f"<{number}>" for number in range(len(results))]


def test_a_stream_that_is_not_unicode_gets_signs_in_ascii() -> None:
    class Ascii(StringIO):
        encoding = "ascii"

    assert shown_on(Ascii(), "✓ VIP: a · b…") == "ok VIP: a - b..."
    assert shown_on(Ascii(), "✗ Zoë") == "x Zo\\xeb"
    assert shown_on(Terminal(), "✓ Zoë \x1b") == "✓ Zoë \\x1b"
