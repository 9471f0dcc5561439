"""Reads the present from the ledgers and the locks of the workspaces; nothing is changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.ledger.locks import cohort_holder, holder_of
from engine.ledger.records import MIRROR
from engine.ledger.run_records import RunEntry
from engine.ledger.sqlite.access import ledger_in
from engine.ledger.sqlite.reader import LedgerReader
from engine.ledger.sync_records import SyncRecord
from engine.model.cohort import CohortKey
from engine.model.status import CohortStatus, RunStatus
from engine.report.accounts import Accounts
from engine.report.cohort_end import end_in_sync, end_of_run
from engine.report.history import RunReport
from engine.report.next_step import first_step
from engine.report.period import CohortPeriod
from engine.report.status import CohortHealth, RunningRun


@dataclass(frozen=True, slots=True)
class WatchedCohort:
    """A cohort whose state is read."""

    key: str | None
    """Its key in the configuration; None if it is not configured."""
    cohort_id: str
    name: str
    mode: str
    """mirror, add or remove."""
    expect_every_ns: int | None = None
    """How long after its last success it is overdue; None: never."""
    is_enabled: bool = True
    """Whether a sync without a selection includes it."""


@dataclass(frozen=True, slots=True)
class WatchedWorkspace:
    """A workspace whose ledger is read."""

    name: str
    """Its name in the configuration."""
    target: str
    workspace_id: str
    partner: str
    folder: Path
    """That of the ledger; it need not exist."""
    cohorts: Sequence[WatchedCohort]


class WorkspaceStatus:
    """What runs in one workspace, and how its cohorts stand."""

    def __init__(
        self, watched: WatchedWorkspace, now_utc_ns: int, *, includes_others: bool
    ) -> None:
        """Read it. With `includes_others`, cohorts that are not configured are read, too.

        Raises `LedgerError` for a ledger that cannot be read.
        """
        self._watched = watched
        self._now = now_utc_ns
        self.running: list[RunningRun] = []
        self.cohorts: list[CohortHealth] = []
        self.others = 0
        """Cohorts that have a run and are not in `cohorts`."""
        if (path := ledger_in(watched.folder)) is None:
            self.cohorts = [self._never_run(each) for each in watched.cohorts]
            return
        with LedgerReader.open(path) as ledger:
            self._read(ledger, includes_others=includes_others)

    def _read(self, ledger: LedgerReader, *, includes_others: bool) -> None:
        self.running = list(self._running(ledger))
        cohorts = list(self._watched.cohorts)
        configured = {each.cohort_id for each in cohorts}
        partner = self._watched.partner
        ran = {key.cohort_id for key in ledger.history.cohorts() if key.partner == partner}
        others = ran - configured
        if includes_others:
            cohorts += [self._unconfigured(ledger, each) for each in sorted(others)]
        else:
            self.others = len(others)
        records = {
            each.cohort: each for each in ledger.history.synced_last() if each.partner == partner
        }
        backup_utc_ns = None
        if (restored := ledger.history.restored()) is not None:
            backup_utc_ns, since = restored
            records = {k: each for k, each in records.items() if each.started_utc_ns > since}
        self.cohorts = [
            self._health(ledger, each, records, backup_utc_ns if each.cohort_id in ran else None)
            for each in cohorts
        ]

    def _key(self, cohort_id: str) -> CohortKey:
        return CohortKey(self._watched.partner, cohort_id)

    def _unconfigured(self, ledger: LedgerReader, cohort_id: str) -> WatchedCohort:
        last = ledger.history.last_run(self._key(cohort_id))
        name = ledger.period.last_name(self._watched.partner, cohort_id) or cohort_id
        return WatchedCohort(None, cohort_id, name, last.record.entry.action if last else "mirror")

    def _running(self, ledger: LedgerReader) -> Iterator[RunningRun]:
        """Yield the runs whose cohorts are locked: the others' processes have died."""
        keys = {each.cohort_id: each.key for each in self._watched.cohorts}
        sender = holder_of(self._watched.folder)
        for entry in ledger.history.running():
            key = CohortKey(entry.partner, entry.cohort_id)
            process = cohort_holder(self._watched.folder, key)
            if ledger.is_older:  # A program of version 0.1 locks the whole workspace instead.
                process = sender
            if process is None:
                continue
            accounts = self._report(ledger, entry.name).accounts()
            is_planned = not entry.is_mirror or ledger.history.plan(entry.name) is not None
            yield RunningRun(
                self._watched.name,
                keys.get(entry.cohort_id) or entry.cohort_id,
                entry.name,
                entry.action,
                entry.started_utc_ns,
                process,
                _state_of(process, sender, is_planned=is_planned, sent=accounts.requests.sent),
                accounts.uids.planned,
                accounts.uids.accepted,
            )

    def _report(self, ledger: LedgerReader, run: str) -> RunReport:
        return RunReport(ledger.history, self._watched.folder, run, is_older=ledger.is_older)

    def _health(
        self,
        ledger: LedgerReader,
        cohort: WatchedCohort,
        records: Mapping[str, SyncRecord],
        backup_utc_ns: int | None,
    ) -> CohortHealth:
        """Return how a cohort stands.

        `backup_utc_ns` is when the backup was made from which runs of the cohort were restored.
        """
        key = self._key(cohort.cohort_id)
        snapshot = next(iter(ledger.uids.generations(key)), None)
        last, accounts = self._last(ledger, cohort, records)
        unknown = accounts.uids.unconfirmed if accounts else 0
        action = MIRROR if cohort.mode == "changes" else cohort.mode
        success = ledger.history.last_success(key, action)
        never_run = self._never_run(cohort)
        found = replace(
            never_run,
            members=snapshot.members if snapshot else None,
            unknown=snapshot.unknown if snapshot else unknown,
            rejected=accounts.uids.rejected + accounts.rows.invalid if accounts else 0,
            next_step=last.next_step if last else never_run.next_step,
            last=last,
            backup_utc_ns=backup_utc_ns if last is None else None,
        )
        if success is None:
            return found
        every = cohort.expect_every_ns
        due = None if every is None else success + every
        return replace(
            found,
            last_success_utc_ns=success,
            due_utc_ns=due,
            is_overdue=due is not None and due < self._now,
        )

    def _never_run(self, cohort: WatchedCohort) -> CohortHealth:
        return CohortHealth(
            cohort.key or cohort.cohort_id,
            self._watched.name,
            cohort.cohort_id,
            cohort.name,
            cohort.mode,
            members=None,
            unknown=0,
            rejected=0,
            last_success_utc_ns=None,
            due_utc_ns=None,
            is_overdue=cohort.expect_every_ns is not None,
            next_step=first_step(cohort.key) if cohort.key and cohort.is_enabled else None,
            last=None,
        )

    def _last(
        self, ledger: LedgerReader, cohort: WatchedCohort, records: Mapping[str, SyncRecord]
    ) -> tuple[CohortPeriod | None, Accounts | None]:
        """Return how the last run of a cohort ended, or its last sync if that is later.

        The second value is the accounts of the last run.
        """
        found = ledger.history.last_run(self._key(cohort.cohort_id))
        entry = found.record.entry if found else None
        accounts = self._report(ledger, entry.name).accounts() if entry else None
        record = records.get(cohort.key or "")
        if record is not None and record.cohort_id != cohort.cohort_id:
            record = None  # The key was that of another cohort.
        if record is not None and _is_later(record, entry, accounts):
            watched, completed = self._watched, None
            if record.status == CohortStatus.UP_TO_DATE and entry is not None:
                completed = entry.name
            place = cohort.name, watched.target, watched.workspace_id
            return end_in_sync(record, *place, completed=completed), accounts
        if entry is None or accounts is None:
            return None, None
        if record is not None and record.run != entry.name:
            record = None
        reads = ledger.history
        end = end_of_run(reads, accounts, entry, key=cohort.key, record=record, members=None)
        return end, accounts


def _is_later(record: SyncRecord, entry: RunEntry | None, accounts: Accounts | None) -> bool:
    """Return whether a sync without a run says more than the last run, since it ended later."""
    if record.run is not None:
        return False
    if entry is None or accounts is None:
        return True
    if accounts.status == RunStatus.RUNNING:  # It ends later than what has ended.
        return False
    ended = entry.started_utc_ns if entry.finished_utc_ns is None else entry.finished_utc_ns
    return record.last_moment_utc_ns > ended


def _state_of(process: str, sender: str | None, *, is_planned: bool, sent: int) -> str:
    """Return what a run does, or what it waits for."""
    if not is_planned:
        return "reads its export and plans"
    if sender is not None and _identity(sender) != _identity(process):
        return f"waits for {sender}, which sends to this workspace"
    return "sends" if sent else "waits to send"


def _identity(process: str) -> str:
    """Return the process and its host; the rest is since when it holds a lock."""
    return process.partition(" since ")[0]
