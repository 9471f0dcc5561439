"""`cohortsync report`: what happened in the last hours, as text, JSON or an HTML page."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.messages import write_message
from engine.cli.options import JsonOption, StateOptions, flat
from engine.cli.streams import print_json, print_lines, printing, table_on_stdout
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine import PeriodReport

_HOURS = {"m": 1 / 60, "h": 1, "d": 24, "w": 168}
_LONGEST_HOURS = 8760


@flat
def report(
    *,
    where: StateOptions,
    since: Annotated[
        str, typer.Option(metavar="DURATION", help="How far back: 90m, 24h, 7d, 2w.")
    ] = "24h",
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write an HTML page, which opens offline."),
    ] = None,
    with_uids: Annotated[
        bool, typer.Option("--with-uids", help="List the first rejected uids, too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Report on the last hours: verdict, what needs attention, cohorts, requests, accounting.

    It covers all workspaces in the state folder, and only reads.
    """
    import asyncio

    hours = _hours_of(since)

    async def read() -> "PeriodReport":
        async with where.open() as engine:
            return await engine.report(since_hours=hours, html=html, with_uids=with_uids)

    found = asyncio.run(read())
    with printing():
        if as_json:
            print_json(found.to_dict())
        elif html is None:
            print_lines(_lines(found), indent=4)
    if html is not None:
        write_message(f"{html} written: {found.verdict}")


def _hours_of(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    hours = int(match[1]) * _HOURS[match[2]] if match else 0.0
    if not 0 < hours <= _LONGEST_HOURS:
        raise UsageError(
            f"--since should be a duration of up to a year, not {text}",
            hint="a number and its unit: 90m, 24h, 7d, 2w",
        )
    return hours


def _lines(report: "PeriodReport") -> Iterator[str]:
    """Yield the report in the order of the page: verdict, exceptions, details, accounting."""
    from engine.report.formats import SIGNS, moment, summary_of, zone

    since, until = moment(report.since_utc_ns), moment(report.until_utc_ns)
    yield f"{SIGNS[report.level]} {report.verdict}"
    yield f"  {since} to {until}, {zone(report.until_utc_ns)}"
    if report.cohorts:
        yield f"  in all: {summary_of(report.change)}"
    yield from _exception_lines(report)
    yield from _cohort_lines(report)
    yield from _request_lines(report)
    yield from _reject_lines(report)
    yield from _member_lines(report)
    yield from _accounting_lines(report)


def _exception_lines(report: "PeriodReport") -> Iterator[str]:
    from engine.report.formats import SIGNS, reason_of, status_of

    for cohort in report.exceptions:
        yield ""
        yield f"{SIGNS[cohort.level]} {cohort.title}: {status_of(cohort)}"
        if reason := reason_of(cohort):
            yield f"    {reason}"
        if cohort.next_step:
            yield f"    `{cohort.next_step.command}`"
            if cohort.next_step.hint:
                yield f"    {cohort.next_step.hint}"


def _cohort_lines(report: "PeriodReport") -> Iterator[str]:
    from engine.report.formats import SIGNS, age_of, attempts_in_words, duration, result_of

    if report.cohorts:
        yield from ("", "Cohorts")
    for cohort in report.cohorts:
        seconds = cohort.elapsed_seconds
        taken = "" if seconds is None else f" in {duration(max(0.1, seconds))}"
        members = "" if cohort.members is None else f"; {cohort.members:,} members"
        result = f"{result_of(cohort)}{taken}{members}"
        yield f"  {SIGNS[cohort.level]} {cohort.title} ({cohort.workspace}): {result}"
        for attempt in attempts_in_words(cohort.failed_attempts):
            yield f"      before: {attempt}"
        for file in cohort.files[:3]:
            yield f"      {file.name}, {age_of(file, cohort.started_utc_ns)}"
        if len(cohort.files) > 3:  # noqa: PLR2004 - as above
            yield f"      and {len(cohort.files) - 3:,} more files"


def _request_lines(report: "PeriodReport") -> Iterator[str]:
    from engine.report.formats import ANSWERS, LOSSES

    for workspace in report.workspaces:
        total, ceiling = workspace.total, workspace.ceiling
        yield from ("", f"Requests of {workspace.workspace} ({workspace.target})")
        yield (
            f"  {total.sent:,} sent; {workspace.use:.1%} of the ceiling "
            f"({ceiling.requests:,} in {ceiling.per_seconds:g} s) while runs were sending"
        )
        for cause, requests, share in workspace.losses:
            yield f"    {requests:,.1f} lost ({share:.1%}): {LOSSES[cause]}"
        counts = (f"{name}: {total.answers[each]:,}" for each, name in ANSWERS.items())
        yield f"  answers: {'; '.join(counts)}"
        times = (total.milliseconds(share) for share in (0.5, 0.95, 0.99))
        median, most, nearly_all = ("unknown" if each is None else f"{each:,} ms" for each in times)
        yield f"  latency: median {median}, 95 % within {most}, 99 % within {nearly_all}"


def _reject_lines(report: "PeriodReport") -> Iterator[str]:
    if report.rejects:
        yield from ("", "Rejected uids and invalid rows")
    for reject in report.rejects:
        ids = f"; request ids {', '.join(reject.request_ids)}" if reject.request_ids else ""
        yield f"  {reject.rows:,} {reject.kind}: {reject.reason}{ids}; run {reject.runs[-1]}"
    for uid in report.rejected_uids or ():
        yield f"  {uid.record.uid}: {uid.record.reason} ({uid.cohort})"


def _member_lines(report: "PeriodReport") -> Iterator[str]:
    from engine.report.formats import day

    if report.members:
        yield from ("", "Members over the last days")
    for history in report.members:
        counts = [f"{day(each.made_utc_ns)} {each.members:,}" for each in history.counts[-5:]]
        yield f"  {history.cohort_name or history.cohort_id}: {' · '.join(counts)}"


def _accounting_lines(report: "PeriodReport") -> Iterator[str]:
    from engine.report.formats import SIGNS, sums_of
    from engine.report.period import Level

    if not report.runs:
        return
    yield from ("", "Accounting")
    headings = ("run", "read", "planned", "accepted", "rejected", "unknown", "not sent")
    signs = [sums_of(run) for run in report.runs]
    rows = [
        (
            f"{sign} {run.run}",
            *(f"{count:,}" for count in (run.rows.read, run.uids.planned, run.uids.accepted)),
            *(
                f"{count:,}"
                for count in (run.uids.rejected, run.uids.unconfirmed, run.uids.pending)
            ),
        )
        for run, (sign, _) in zip(report.runs, signs, strict=True)
    ]
    yield from table_on_stdout(headings, rows, headings[1:])
    for run, (sign, words) in zip(report.runs, signs, strict=True):
        if run.imbalance:
            yield f"{sign} {run.run}: {words}"
    meanings = {sign: words for sign, words in signs if sign != SIGNS[Level.FAILED]}
    yield f"  {'; '.join(f'{sign} {words}' for sign, words in meanings.items())}"
