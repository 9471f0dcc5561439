"""Prints the result of a sync: each cohort's verdict, then one line about all of them."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from engine import CohortResult, ExitStatus, SyncResult
from engine.cli.messages import level_of, log, print_columns, write_traceback
from engine.cli.signs import sign_of
from engine.cli.streams import print_json, print_lines, printing
from engine.cli.summary import accounting_lines
from engine.cli.text import duration
from engine.cli.verbosity import Verbosity, verbosity
from engine.cli.verdict import cohort_lines
from engine.model.quantity import counted

_NAMED = 3
"""How many cohorts the last line names."""


def print_sync(result: SyncResult, *, as_json: bool) -> None:
    """Print the JSON document, or lines for people, on stdout; and the end on stderr.

    On a terminal that has shown each verdict when its cohort ended, the last line is enough.
    """
    for each in result.cohorts:
        if each.bug is not None:
            write_traceback(each.bug)
    shown = verbosity()
    with printing():
        if as_json:
            print_json(result.to_dict())
        else:
            are_shown = sys.stdout.isatty() and sys.stderr.isatty() and shown is Verbosity.NORMAL
            if not are_shown:
                for each in result.cohorts:
                    _print_cohort(each, shown)
            if shown is not Verbosity.QUIET or result.exit_status:
                print_lines([last_line(result)], indent=2)
    if not sys.stderr.isatty():
        _log_end(result)


def _print_cohort(result: CohortResult, shown: Verbosity) -> None:
    if result.exit_status is ExitStatus.ACCEPTED and shown is Verbosity.QUIET:
        return
    print_lines(cohort_lines(result), indent=4)
    if result.run is not None and (
        shown is Verbosity.VERBOSE or result.exit_status is ExitStatus.UNBALANCED
    ):
        print_lines(accounting_lines(result.run.accounts, print_columns(sys.stdout)))


def last_line(result: SyncResult) -> str:
    """Return one line: how many cohorts ended how, what that took, whose the exit status is."""
    sign = sign_of(result.exit_status).character
    parts = ", ".join(_kinds(result.cohorts)) or "nothing to do"
    line = f"{sign} {counted(len(result.cohorts), 'cohort')}: {parts}; {_taken(result)}"
    if not result.exit_status:
        return line
    mine = [each.cohort for each in result.cohorts if each.exit_status is result.exit_status]
    more = f" and {len(mine) - _NAMED:,} more" if len(mine) > _NAMED else ""
    return f"{line}; exit status {result.exit_status:d} by {', '.join(mine[:_NAMED])}{more}"


def _kinds(results: Sequence[CohortResult]) -> Iterator[str]:
    counts = Counter(each.exit_status for each in results)
    for status, words in _KINDS.items():
        if counts[status]:
            yield f"{counts[status]:,} {words}"


_KINDS = {
    ExitStatus.ACCEPTED: "ok",
    ExitStatus.PARTIAL: "with rejects",
    ExitStatus.GUARDED: "stopped by a guard",
    ExitStatus.INCOMPLETE: "incomplete",
    ExitStatus.USAGE: "failed",
    ExitStatus.REFUSED: "refused",
    ExitStatus.UNBALANCED: "ended by a bug",
}


def _taken(result: SyncResult) -> str:
    """Return the requests, the time, and how much of the ceiling was used."""
    seconds = (result.finished_utc_ns - result.started_utc_ns) / 1e9
    if result.is_dry:
        runs = [each.run for each in result.cohorts if each.run and each.exit_status in _SENDING]
        requests = sum(
            each.plan["requests"] if each.plan else each.accounts.batches.planned for each in runs
        )
        return f"{counted(requests, 'request')} to send, nothing was sent"
    taken = f"{counted(result.requests, 'request')} in {duration(seconds)}"
    if result.ceiling_use is None:
        return taken
    return f"{taken}, ceiling {result.ceiling_use:.0%} used"


_SENDING = {ExitStatus.ACCEPTED, ExitStatus.PARTIAL}
"""How a cohort ends in a dry run if it would be sent."""


def _log_end(result: SyncResult) -> None:
    """Log the end of the sync; the last record of the command."""
    worst = result.worst
    counts = Counter(each.exit_status for each in result.cohorts)
    log(
        level_of(result.exit_status),
        "ended",
        sync=result.sync,
        status="finished" if not result.exit_status else "failed",
        exit_status=int(result.exit_status),
        reason=f"{worst.cohort}: {worst.reason}" if worst and result.exit_status else None,
        count=len(result.cohorts),
        **{f"cohorts_{each.name.lower()}": counts[each] for each in ExitStatus if counts[each]},
        requests=result.requests,
        elapsed_seconds=round((result.finished_utc_ns - result.started_utc_ns) / 1e9, 1),
    )
