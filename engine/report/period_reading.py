"""Reads what happened in a period from the ledgers of a state folder."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from engine.ledger.period_records import MemberCount, ReasonCount
from engine.ledger.sqlite.access import ledgers
from engine.ledger.sqlite.reader import LedgerReader
from engine.ledger.sync_records import SyncRecord
from engine.model.cohort import CohortKey
from engine.model.status import CohortStatus, RunStatus
from engine.model.time_of_day import local_time
from engine.report.accounts import Accounts
from engine.report.accounts_from_ledger import target_label
from engine.report.cohort_end import end_in_sync, end_of_run, is_continued
from engine.report.cohort_periods import put_together
from engine.report.history import RunReport
from engine.report.period import (
    CohortPeriod,
    Level,
    MemberHistory,
    PeriodReport,
    RejectedReason,
    RejectedUid,
)
from engine.report.requests import Interval, WorkspacePeriod, spending_together

if TYPE_CHECKING:
    from engine.ledger.run_records import RunEntry

_SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * _SECOND_NS
MEMBER_DAYS = 14
"""How many days back the members of each cohort are shown."""
MOST_INTERVALS = 96
MOST_REJECTED_UIDS = 100
_MOST_REQUEST_IDS = 5
_MOST_REASONS = 50
_LONGEST_SYNC_NS = 7 * _DAY_NS
"""How long before the period a sync may have begun."""
_INTERVALS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)
"""The lengths of an interval, in seconds."""
_NOT_SENT = {RunStatus.PLANNED, RunStatus.SHADOW}
"""The statuses of runs that say nothing about the cohort's state."""


def report_on(
    state: Path, since_utc_ns: int, until_utc_ns: int, *, with_uids: bool = False
) -> PeriodReport:
    """Return what happened from `since_utc_ns` until now, `until_utc_ns`.

    With `with_uids` it has the first rejected uids. Raises `LedgerError` as `ledgers` does, and if
    a ledger cannot be read.
    """
    found = _Found()
    for path in ledgers(state):
        with LedgerReader.open(path) as ledger:
            _Workspace(ledger, path.parent, since_utc_ns, until_utc_ns).read(found)
    order = list(Level)
    found.cohorts.sort(key=lambda each: (-order.index(each.level), each.title.casefold()))
    return PeriodReport(
        since_utc_ns,
        until_utc_ns,
        found.cohorts,
        found.workspaces,
        sorted(found.rejects.values(), key=lambda each: -each.rows)[:_MOST_REASONS],
        found.members,
        sorted(found.runs, key=lambda accounts: accounts.started_at),
        found.rejected_uids[:MOST_REJECTED_UIDS] if with_uids else None,
    )


@dataclass(slots=True)
class _Found:
    """What was found in the ledgers read so far."""

    cohorts: list[CohortPeriod] = field(default_factory=list)
    workspaces: list[WorkspacePeriod] = field(default_factory=list)
    rejects: dict[tuple[str, str], RejectedReason] = field(default_factory=dict)
    members: list[MemberHistory] = field(default_factory=list)
    runs: list[Accounts] = field(default_factory=list)
    rejected_uids: list[RejectedUid] = field(default_factory=list)

    def add_reason(self, reason: ReasonCount, accounts: Accounts) -> None:
        """Add the rejects of a run with one reason."""
        key = (reason.kind, reason.reason)
        before = self.rejects.get(key) or RejectedReason(*key, 0, (), (), ())
        request_ids = dict.fromkeys((*before.request_ids, *reason.request_ids))
        self.rejects[key] = RejectedReason(
            *key,
            before.rows + reason.rows,
            (*before.runs, str(accounts.run)),
            tuple(dict.fromkeys((*before.cohorts, accounts.cohort_name))),
            tuple(request_ids)[:_MOST_REQUEST_IDS],
        )


class _Workspace:
    """Reads one ledger: a workspace at an endpoint."""

    def __init__(
        self, ledger: LedgerReader, folder: Path, since_utc_ns: int, until_utc_ns: int
    ) -> None:
        self._ledger = ledger
        self._folder = folder
        self._since = since_utc_ns
        self._until = until_utc_ns
        self._accounts: dict[str, Accounts] = {}
        self._entries: dict[str, RunEntry] = {}

    def read(self, found: _Found) -> None:
        """Add what this ledger holds of the period."""
        for entry in self._ledger.period.runs_since(self._since):
            accounts = self._report(entry.name).accounts()
            has_died = entry.status == RunStatus.RUNNING != accounts.status
            if has_died and entry.started_utc_ns < self._since:
                continue  # It stays `running` in the ledger until the cohort's next run.
            self._entries[entry.name], self._accounts[entry.name] = entry, accounts
        found.runs += self._accounts.values()
        found.cohorts += self._cohorts()
        found.members += self._member_histories()
        if (requests := self._requests()) is not None:
            found.workspaces.append(requests)
        for name, accounts in self._accounts.items():
            number = self._entries[name].number
            for reason in self._ledger.period.reasons(number):
                found.add_reason(reason, accounts)
            for record in self._ledger.period.first_rejected(number, MOST_REJECTED_UIDS):
                found.rejected_uids.append(RejectedUid(name, accounts.cohort_name, record))

    def _report(self, run: str) -> RunReport:
        ledger = self._ledger
        return RunReport(ledger.history, self._folder, run, is_older=ledger.is_older)

    def _cohorts(self) -> list[CohortPeriod]:
        """Return each cohort as its last sync or run in the period left it."""
        records = [
            record
            for record in self._ledger.history.synced_since(self._since - _LONGEST_SYNC_NS)
            if record.last_moment_utc_ns >= self._since
        ]
        of_runs = self._records_of_runs(records)
        ends = [
            self._end_of_run(accounts, of_runs.get(name))
            for name, accounts in self._accounts.items()
            if accounts.status not in _NOT_SENT
        ]
        ends += [
            self._end_in_sync(record)
            for record in records
            if record not in of_runs.values() or self._is_continued(record)
        ]
        return put_together(ends)

    def _records_of_runs(self, records: Sequence[SyncRecord]) -> dict[str, SyncRecord]:
        """Return, of each run that a sync ran, the record of its last sync."""
        of_runs = {each.run: each for each in records if each.run is not None}
        of_runs = {name: each for name, each in of_runs.items() if name in self._accounts}
        unended = [each for each in records if each.status is None]
        for name, entry in self._entries.items():
            if name not in of_runs:  # The run is recorded only when the cohort has ended.
                for each in unended:
                    if _is_run_of(entry, each):
                        of_runs[name] = each
        return of_runs

    def _is_continued(self, record: SyncRecord) -> bool:
        """Return whether a run that a sync has ended was continued without a sync."""
        return record.run is not None and is_continued(self._entries[record.run], record)

    def _end_of_run(self, accounts: Accounts, record: SyncRecord | None) -> CohortPeriod:
        return end_of_run(
            self._ledger.history,
            accounts,
            self._entries[str(accounts.run)],
            key=record.cohort if record else None,
            record=record,
            members=self._members_after(accounts),
        )

    def _end_in_sync(self, record: SyncRecord) -> CohortPeriod:
        name = self._ledger.period.last_name(record.partner, record.cohort_id)
        completed = None
        if record.status == CohortStatus.UP_TO_DATE:
            last = self._ledger.history.last_run(CohortKey(record.partner, record.cohort_id))
            completed = last.record.entry.name if last else None
        return end_in_sync(record, name, *self._place, completed=completed)

    @cached_property
    def _place(self) -> tuple[str, str]:
        """The target and the id of the workspace."""
        for accounts in reversed(self._accounts.values()):
            return accounts.target, accounts.workspace
        endpoint, workspace = (unquote(part) for part in self._folder.parts[-2:])
        return target_label(endpoint), workspace

    @cached_property
    def _members(self) -> dict[tuple[str, str], list[MemberCount]]:
        """The snapshots of each cohort over the last days, by partner and id."""
        found: dict[tuple[str, str], list[MemberCount]] = defaultdict(list)
        for count in self._ledger.period.members_since(self._until - MEMBER_DAYS * _DAY_NS):
            found[count.partner, count.cohort_id].append(count)
        return found

    def _members_after(self, accounts: Accounts) -> int | None:
        counts = self._members.get((accounts.partner, accounts.cohort_id))
        return counts[-1].members if counts and accounts.mirror else None

    def _member_histories(self) -> Iterator[MemberHistory]:
        for (_, cohort_id), counts in self._members.items():
            name = counts[-1].cohort_name
            yield MemberHistory(cohort_id, name, self._place[1], _last_of_days(counts))

    def _requests(self) -> WorkspacePeriod | None:
        """Return the requests of the period; None if none was sent."""
        if not self._accounts:
            return None
        runs = self._entries.values()
        start = max(self._since, min(run.started_utc_ns for run in runs))
        end = min(self._until, max(run.finished_utc_ns or self._until for run in runs))
        seconds = _interval_seconds((end - start) / _SECOND_NS)
        intervals: dict[int, Interval] = defaultdict(Interval)
        statuses: Counter[int | None] = Counter()
        for run in runs:
            counts = self._ledger.period.requests(
                run.number, self._since, self._until + 1, seconds * _SECOND_NS
            )
            for count in counts:
                intervals[count.interval].count(count)
                statuses[count.http_status] += count.requests
        if not intervals:
            return None
        first, last = min(intervals), max(intervals)
        latest = self._accounts[list(self._accounts)[-1]]
        return WorkspacePeriod(
            *self._place,
            ceiling=latest.ceiling,
            spending=spending_together(
                [each.ceiling_spending for each in self._accounts.values()],
                [each for run in runs for each in self._ledger.period.sending(run.number)],
            ),
            interval_seconds=seconds,
            intervals_start_utc_ns=first * seconds * _SECOND_NS,
            intervals=[intervals[number] for number in range(first, last + 1)],
            status_counts=dict(sorted(statuses.items(), key=lambda each: each[0] or 0)),
        )


def _is_run_of(entry: "RunEntry", record: SyncRecord) -> bool:
    """Return whether a run may be that of a sync that has not recorded its end."""
    is_cohort = (entry.partner, entry.cohort_id) == (record.partner, record.cohort_id)
    return is_cohort and entry.started_utc_ns >= record.started_utc_ns


def _interval_seconds(span_seconds: float) -> int:
    """Return the shortest interval that divides a span into at most `MOST_INTERVALS`."""
    # The first and the last interval may be partly outside.
    least = span_seconds / (MOST_INTERVALS - 1)
    days = 86_400 * (1 + int(least // 86_400))
    return next((seconds for seconds in _INTERVALS if seconds >= least), days)


def _last_of_days(counts: Sequence[MemberCount]) -> list[MemberCount]:
    """Return the last snapshot of each day, by this machine's time zone."""
    return list({local_time(each.made_utc_ns).date(): each for each in counts}.values())
