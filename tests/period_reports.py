"""Reports on a period, made of values: many cohorts, and text that a page must not obey."""

from collections import Counter

from engine.errors import ExitStatus
from engine.ledger.period_records import MemberCount
from engine.ledger.run_records import RejectRecord
from engine.report.accounts import (
    Accounts,
    Ceiling,
    CeilingSpending,
    MirrorFigures,
    Requests,
    RowCounts,
    Standing,
)
from engine.report.next_step import next_step
from engine.report.period import (
    CohortPeriod,
    FailedAttempt,
    Level,
    MemberHistory,
    PeriodReport,
    RejectedReason,
    RejectedUid,
)
from engine.report.requests import Answer, Interval, WorkspacePeriod
from engine.source.source_file import SourceFile

NOW = 1_795_759_800_000_000_000
HOUR = 3600 * 1_000_000_000
SCRIPT = "<script>fetch('http://127.0.0.1:1/')</script>"
IMAGE = "<img src=http://127.0.0.1:1/x onerror=alert(1)>\"'"
HOSTILE = f"{SCRIPT}{IMAGE} \u202eevil\u2066\u200b\x1b[2J\ud800"
LONG = "W" * 900


def accounts(name: str, *, rejected: int = 0) -> Accounts:
    add = Standing(1200, 1200 - rejected, rejected)
    return Accounts(
        run="20261127-020000-abcd",
        status="finished",
        exit_status=1 if rejected else 0,
        reason=None,
        target=name,
        workspace=name,
        partner="p",
        cohort_id="c",
        cohort_name=name,
        action="mirror",
        ceiling=Ceiling(300, 60.0),
        source_complete=True,
        rows=RowCounts(101_203, 1, 2),
        uids=add + Standing(80, 80),
        batches=Standing(2, 2),
        mirror=MirrorFigures(unchanged=100_000, add=add, remove=Standing(80, 80)),
        requests=Requests(2, 2),
        bytes_sent=100,
        payload_fill=0.9,
        ceiling_use=0.9,
        ceiling_spending=CeilingSpending(100.0, 90, held=10.0),
        ceiling_found=None,
        margin_seconds=0.0,
        started_at="2026-11-27T02:00:00.000+00:00",
        finished_at="2026-11-27T02:10:00.000+00:00",
        elapsed_seconds=600.0,
    )


def cohort(name: str, exit_status: int | None = 0, *, cohort_id: str = "c") -> CohortPeriod:
    level = {0: Level.OK, 1: Level.ATTENTION, 75: Level.ATTENTION}.get(exit_status, Level.FAILED)
    guards = [
        {
            "guard": guard,
            "verdict": "passes" if exit_status != ExitStatus.GUARDED else "blocks",
            "sentence": "1,200 removals",
            "override": f'--allow {guard}=1200 --reason "…"',
            "hint": None,
            "count": 1200,
            "limit": 2000,
        }
        for guard in ("removals", "additions")
    ]
    return CohortPeriod(
        cohort=name,
        cohort_id=cohort_id,
        cohort_name=name,
        target=name,
        workspace=name,
        partner="p",
        sync="s",
        mode="mirror",
        status="finished" if level is Level.OK else "guarded",
        exit_status=exit_status,
        reason=None if level is Level.OK else f"`code` {name}",
        level=level,
        next_step=next_step(exit_status, "run", synced_as=name, mode="mirror", guards=guards),
        started_utc_ns=NOW - 4 * HOUR,
        finished_utc_ns=NOW - 3 * HOUR,
        members=1_234_567,
        run="run",
        runs=[accounts(name, rejected=int(exit_status == 1))],
        files=[SourceFile(name, 10**9, NOW - 30 * HOUR), SourceFile(name, None, None)] * 2,
        guards=guards,
        failed_attempts=[]
        if level is Level.OK
        else [FailedAttempt(NOW - 5 * HOUR, "source_failed", 2, f"`code` {name}", None)],
    )


def workspace(name: str, seconds: int = 60, intervals: int = 90) -> WorkspacePeriod:
    found = [
        Interval(
            Counter({Answer.ACCEPTED: 280 + number % 20, Answer.THROTTLED: number % 3}),
            Counter({40 + number: 200, 900: 20, 4000: 3}),
        )
        if number % 30
        else Interval()
        for number in range(intervals)
    ]
    return WorkspacePeriod(
        target=name,
        workspace=name,
        ceiling=Ceiling(300, 60.0),
        spending=CeilingSpending(27_000.0, 26_000, held=500.0, input=400.0, late=100.0),
        interval_seconds=seconds,
        intervals_start_utc_ns=NOW - 5 * HOUR,
        intervals=found,
        status_counts={None: 3, 200: 25_900, 429: 90, 500: 7},
    )


def report(
    cohorts: list[CohortPeriod], name: str = "DEMO", *, with_uids: bool = False
) -> PeriodReport:
    """Return a report with every section; `name` stands wherever foreign text may."""
    reject = RejectRecord("rejected", name, 7, 1, f"400: {name}", f"uid-{name}", name)
    members = [
        MemberCount("p", "c", name, NOW - days * 24 * HOUR, 10**6 - days * 1000, 0)
        for days in range(13, -1, -1)
    ]
    return PeriodReport(
        since_utc_ns=NOW - 24 * HOUR,
        until_utc_ns=NOW,
        cohorts=cohorts,
        workspaces=[workspace(name)],
        rejects=[RejectedReason("rejected", name, 3, [name], [name] * 5, [name] * 3)],
        members=[MemberHistory(name, name, name, members)] * len(cohorts),
        runs=[accounts(each.title) for each in cohorts],
        rejected_uids=[RejectedUid(name, name, reject)] if with_uids else None,
    )
