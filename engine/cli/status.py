"""`cohortsync status`: what runs now, and how each cohort stands."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from engine.cli.messages import level_of, log
from engine.cli.options import JsonOption, ProjectOptions, flat
from engine.cli.streams import print_json, print_lines, printing

if TYPE_CHECKING:
    from engine import CohortHealth, RunningRun, Status
    from engine.report.status import WorkspaceCeiling


@flat
def status(*, where: ProjectOptions, as_json: JsonOption = False) -> None:
    """Show what runs now, and how each cohort stands: members, last success, what to do next.

    Exit status 1 if a cohort is overdue: its last success is longer ago than its `expect_every`.
    """
    found = where.call(lambda engine: engine.status())
    with printing():
        if as_json:
            print_json(found.to_dict())
        else:
            print_lines(lines_of(found), indent=4)
    if found.exit_status and not sys.stderr.isatty():
        level, code = level_of(found.exit_status), int(found.exit_status)
        log(level, "ended", status="overdue", exit_status=code, reason=found.reason)
    raise typer.Exit(found.exit_status)


def lines_of(found: "Status") -> Iterator[str]:
    """Yield the lines of a status."""
    from engine.model.quantity import counted

    for run in found.running:
        yield from _running_lines(run, found.at_utc_ns)
    if not found.running:
        yield "nothing runs now"
    for ceiling in found.shared:
        yield from _ceiling_lines(ceiling)
    if found.cohorts:
        yield ""
    width = min(_WIDEST, max((len(each.cohort) for each in found.cohorts), default=0))
    for cohort in found.cohorts:
        yield from _cohort_lines(cohort, width, found.at_utc_ns, has_step=found.has_begun)
    yield ""
    if not found.has_begun:
        yield _FIRST_STEP if found.cohorts else _NO_COHORT
    if found.others:
        yield f"{counted(found.others, 'cohort')} not configured: `cohortsync runs` lists what ran"
    yield f"the state takes {found.state_size}"


def _running_lines(run: "RunningRun", now_utc_ns: int) -> Iterator[str]:
    from engine.report.formats import duration

    since = duration((now_utc_ns - run.started_utc_ns) / 1e9)
    figures = f": {run.accepted:,} of {run.planned:,} accepted" if run.planned else ""
    yield f"{run.cohort} {run.state}{figures}"
    yield f"    run {run.run}, begun {since} ago by {run.process}"


def _ceiling_lines(ceiling: "WorkspaceCeiling") -> Iterator[str]:
    if (now := ceiling.now) is None:
        yield f"the ceiling shared at {ceiling.server} is unknown: {ceiling.problem}"
        return
    held = f", held for {now.held_seconds:.0f} s" if now.held_seconds else ""
    yield (
        f"the ceiling shared at {ceiling.server}: {now.used:,} of {now.requests:,} requests of the "
        f"last window{held}"
    )
    for each in now.processes:
        yield f"    {each.requests:,} by {each.process}"


_WIDEST = 24
"""The verdicts of cohorts with longer keys are not in line with the others."""
_FIRST_STEP = "next: `cohortsync sync --dry-run` shows what the first sync would do"
_NO_COHORT = "no cohort is configured, and none ran: docs/nightly.md shows how to configure one"


def _cohort_lines(
    cohort: "CohortHealth", width: int, now_utc_ns: int, *, has_step: bool
) -> Iterator[str]:
    from engine.report.formats import SIGNS, duration, reason_of, status_of, summary_of

    def ago(utc_ns: int) -> str:
        return duration((now_utc_ns - utc_ns) / 1e9)

    last, success, due = cohort.last, cohort.last_success_utc_ns, cohort.due_utc_ns
    verdict = "never ran" if last is None else status_of(last)
    if (backup := cohort.backup_utc_ns) is not None:
        verdict = f"no run since a backup of {ago(backup)} ago was restored"
    if last is not None and last.change is not None and last.status != "running":
        verdict += f", {summary_of(last.change)}"
    members = "" if cohort.members is None else f"  {cohort.members:,} members"
    yield f"{SIGNS[cohort.level]} {cohort.cohort:<{width}}  {verdict}"
    known = "no success yet" if success is None else f"last success {ago(success)} ago"
    unknown = f", {cohort.unknown:,} unknown" if cohort.unknown else ""
    yield f"    {known}{members and ','}{members[1:]}{unknown}"
    if cohort.is_overdue:
        yield f"    overdue{'' if due is None else f' for {ago(due)}'}"
    if last is not None and (reason := reason_of(last)) and cohort.next_step:
        yield f"    {reason}"
    if has_step and (step := cohort.next_step):
        yield f"    next: `{step.command}`"
        if step.hint:
            yield f"    {step.hint}"
