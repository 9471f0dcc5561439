"""The runs in the ledgers of a state folder: accounts, plans, attempts and rejects."""

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from engine.errors import UsageError
from engine.ledger.locks import cohort_holder, is_held
from engine.ledger.plan_records import PlanRecord
from engine.ledger.run_records import (
    ALL_RUNS,
    AttemptRecord,
    EarlierRejection,
    RejectRecord,
    RunEntry,
    RunFilter,
    RunRecord,
    StoredRequest,
)
from engine.ledger.sqlite.access import ledgers
from engine.ledger.sqlite.reader import LedgerReader
from engine.model.cohort import CohortKey, Operation
from engine.model.status import RESUMABLE, RunStatus
from engine.report.accounts import Accounts, timestamp
from engine.report.accounts_from_ledger import account
from engine.report.files import files_document
from engine.report.run_names import LATEST, candidates, the_one
from engine.source.source_file import SourceFile
from engine.storage.paths import operation_path, plan_folder


def plan_document(record: PlanRecord) -> dict[str, Any]:
    """Return a mirror's plan as plain values, with a sample of its uids."""
    return {
        "generation": record.generation,
        "first_action": record.first_action.value,
        **record.forecast,
        "guards": list(record.verdicts),
        "allowed": list(record.allowances),
    }


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run's accounts, files, plan and attempts."""

    accounts: Accounts
    files: Sequence[SourceFile]
    plan: Mapping[str, Any] | None
    """A mirror's plan in the form of `--json`; None for a push, or if the run did not plan."""
    lifts: Sequence[Mapping[str, Any]]
    """The guards that were lifted for a push: guard, bound, user, host, reason."""
    attempts: Sequence[Mapping[str, Any]]
    """Every attempt with its batch, in order; the keys are `ATTEMPT_COLUMNS`. Empty if they were
    not asked for."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `show`."""
        document = self.accounts.to_dict() | files_document(self.files, most_listed=None)
        if self.accounts.mirror is not None:
            document["plan"] = self.plan
        else:
            document["allowed"] = list(self.lifts)
        document["attempts"] = list(self.attempts)
        return document


@dataclass(frozen=True, slots=True)
class Reject:
    """A rejected uid, or a blank or invalid row of the export."""

    kind: str
    """`rejected`, `invalid` or `blank`."""
    file: str | None
    record: int
    """The record's number in the file, from 1; a header is not counted."""
    reason: str
    uid: str | None
    request_id: str | None
    """The API's; these two are None unless the uid was rejected."""

    def to_dict(self) -> dict[str, Any]:
        """Return the line of `rejects --json`."""
        return asdict(self)


class RunReads(Protocol):
    """The interface that reports read runs by; each method takes the name of a known run."""

    def record(self, name: str, *, is_recounted: bool = False) -> RunRecord:
        """Return the record that the accounts of a run are computed from.

        With `is_recounted`, the totals stored with the run are recounted: raises `LedgerError` if
        they differ from the sums of its batches and attempts.
        """

    def plan(self, name: str) -> PlanRecord | None:
        """Return a mirror's plan; None for a push, or if the run ended before it had planned."""

    def files(self, name: str) -> Sequence[SourceFile]:
        """Return the files of a run in the order in which they are read."""

    def lifted_guards(self, name: str) -> Sequence[dict[str, Any]]:
        """Return which guards were lifted for a push, by whom and why."""

    def attempts(self, name: str) -> Iterator[AttemptRecord]:
        """Yield every attempt with its batch, by batch, including batches without an attempt."""

    def rejects(self, name: str) -> Iterator[RejectRecord]:
        """Yield every rejected uid and the blank and invalid rows, in export order."""

    def earlier_rejection(self, uid: str, run: str) -> EarlierRejection | None:
        """Return the last rejection of a uid by an earlier run of the same cohort.

        None if that run is no longer kept.
        """


class RunReport:
    """A report on one run. It reads while its ledger is open; see `open_run`."""

    def __init__(self, reads: RunReads, folder: Path, name: str, *, is_older: bool = False) -> None:
        """`folder` is the ledger's: the uids of plans are in files below it.

        `is_older`: whether an earlier version of the program wrote the ledger.
        """
        self._is_older = is_older
        self._reads = reads
        self._folder = folder
        self._name = name

    def accounts(self, *, is_recounted: bool = False) -> Accounts:
        """Return the accounts; the status is incomplete if the run's process has died.

        With `is_recounted`, raises `LedgerError` if the totals stored with the run differ from the
        sums of its batches and attempts.
        """
        accounts = account(self._reads.record(self._name, is_recounted=is_recounted))
        if accounts.status == RunStatus.RUNNING and not self._has_process(accounts):
            return replace(accounts, status=RunStatus.INCOMPLETE, reason="the process died")
        return accounts

    def _has_process(self, accounts: Accounts) -> bool:
        """Return whether a live process works on the run: it holds the lock of the run's cohort.

        A program of version 0.1 locks the whole workspace instead.
        """
        if self._is_older:
            return is_held(self._folder)
        key = CohortKey(accounts.partner, accounts.cohort_id)
        return cohort_holder(self._folder, key) is not None

    def details(self, *, has_attempts: bool = True) -> RunDetails:
        """Return all that is kept of the run except its rejects; its totals are recounted.

        Without `has_attempts`, the attempts are left out: a run may have very many.
        """
        plan = self._reads.plan(self._name)
        return RunDetails(
            self.accounts(is_recounted=True),
            self._reads.files(self._name),
            None if plan is None else plan_document(plan),
            self._reads.lifted_guards(self._name),
            tuple(self.attempts()) if has_attempts else (),
        )

    def attempts(self) -> Iterator[Mapping[str, Any]]:
        """Yield every attempt with its batch, by `ATTEMPT_COLUMNS`; see `RunReads.attempts`."""
        return map(_attempt_document, self.attempt_records())

    def attempt_records(self) -> Iterator[AttemptRecord]:
        """Yield every attempt with its batch as the ledger has it; see `RunReads.attempts`."""
        return self._reads.attempts(self._name)

    def rejected_uids(self) -> Iterator[str]:
        """Yield the uids that this run had rejected."""
        return (each.uid for each in self._reads.rejects(self._name) if each.uid is not None)

    def rejects(self) -> Iterator[Reject]:
        """Yield every rejected uid and every blank or invalid row, in export order.

        A mirror's uids with a rejection in an earlier run are first, as long as its plan is kept.
        """
        if (plan := self._reads.plan(self._name)) is not None:
            yield from self._known_rejects(plan)
        for found in self._reads.rejects(self._name):
            for record in range(found.record, found.record + found.count):
                yield Reject(
                    found.kind, found.file, record, found.reason, found.uid, found.request_id
                )

    def _known_rejects(self, plan: PlanRecord) -> Iterator[Reject]:
        """Yield the uids that a mirror did not send, with the reason of their earlier rejection."""
        folder = plan_folder(self._folder, self._name)
        for operation, counts in plan.operations.items():
            path = operation_path(folder, operation)
            if not (counts.known and path.exists()):
                continue
            # These read Parquet, whose library is large.
            from engine.snapshot.export_places import ExportPlaces  # noqa: PLC0415 - see above
            from engine.snapshot.operation_uids import operation_blocks  # noqa: PLC0415 - see above

            places = ExportPlaces(folder)
            start = counts.planned
            for block in operation_blocks(path, start, start + counts.known):
                for position, uid in enumerate(block.uids.to_pylist(), block.first_record - 1):
                    found = places.find(position) if operation is Operation.ADD else None
                    file, record = found or (path.stem, position + 1)
                    earlier = self._reads.earlier_rejection(uid, self._name)
                    reason = "left alone, as an earlier run that is no longer kept has it"
                    if earlier is not None:
                        reason = f"left alone, as run {earlier.run} has it: {earlier.reason}"
                    request_id = earlier.request_id if earlier else None
                    yield Reject("rejected", file, record, reason, uid, request_id)


REJECT_COLUMNS = tuple(each.name for each in fields(Reject))
"""The keys of `Reject.to_dict`."""

ATTEMPT_COLUMNS = (
    *("batch", "parent", "first_uid", "uid_count", "payload_bytes", "state"),
    *("may_have_been_applied", "attempt", "intended_at", "sent_at", "ended_at", "outcome"),
    *("http_status", "request_id", "reason"),
)
"""The keys of `RunReport.attempts`."""


def _attempt_document(attempt: AttemptRecord) -> Mapping[str, Any]:
    """Return the record with times in ISO 8601."""
    values = attempt._asdict()
    for name in ("intended", "sent", "ended"):
        utc_ns = values[f"{name}_utc_ns"]
        values[f"{name}_at"] = None if utc_ns is None else timestamp(utc_ns)
    return {name: values[name] for name in ATTEMPT_COLUMNS}


def all_runs(state: Path, wanted: RunFilter = ALL_RUNS) -> list[Accounts]:
    """Return the accounts of every wanted run, the latest first; raises as `ledgers` does."""
    found: list[Accounts] = []
    statuses = wanted.statuses
    if statuses is not None and RunStatus.INCOMPLETE in statuses:
        # A run whose process has died is incomplete; the ledger does not know that yet.
        wanted = replace(wanted, statuses=[*statuses, RunStatus.RUNNING])
    for path in ledgers(state):
        with LedgerReader.open(path) as ledger, ledger.history.one_moment():
            names = ledger.history.names(wanted)
            found += [
                RunReport(ledger.history, path.parent, name, is_older=ledger.is_older).accounts()
                for name in names
            ]
    if statuses is not None:
        found = [accounts for accounts in found if accounts.status in statuses]
    return sorted(found, key=lambda accounts: accounts.started_at, reverse=True)


@contextmanager
def open_run(state: Path, name: str) -> Iterator[RunReport]:
    """Open the ledger with a run for the block; `name` is as in `run_names`.

    Raises `UsageError` if no ledger has the run, or if `name` is ambiguous, and `LedgerError` if a
    ledger cannot be read, also if that happens in the block.
    """
    with _ledger_with(state, name) as (ledger, entry, folder):
        yield RunReport(ledger.history, folder, entry.name, is_older=ledger.is_older)


@contextmanager
def _ledger_with(state: Path, run: str) -> Iterator[tuple[LedgerReader, RunEntry, Path]]:
    """Open the ledger with a run: yield the ledger, the run, and the folder; see `open_run`."""
    path, name = _located(state, run)
    with LedgerReader.open(path) as ledger:
        if (entry := ledger.history.entry(name)) is None:  # Deleted a moment ago.
            raise _no_run(state, run)
        yield ledger, entry, path.parent


def _located(state: Path, run: str) -> tuple[Path, str]:
    """Return the ledger with the run that `run` means, and the run's name; see `open_run`."""
    found: list[tuple[Path, str]] = []
    for path in ledgers(state):
        with LedgerReader.open(path) as ledger:
            found += [(path, name) for name in candidates(ledger.history, run, ALL_RUNS)]
    return the_one(run, found, lambda: _no_run(state, run), "run")


def _no_run(state: Path, run: str) -> UsageError:
    hint = "`cohortsync runs` lists them"
    return UsageError(f"no run {run} in the state folder {state}", hint=hint)


def details_of(state: Path, run: str, *, has_attempts: bool = True) -> RunDetails:
    """Return what the state folder keeps of a run; see `RunReport.details`.

    Raises `UsageError` if no ledger has the run, and `LedgerError` for a corrupt ledger.
    """
    with open_run(state, run) as report:
        return report.details(has_attempts=has_attempts)


def rejects_in(state: Path, run: str) -> Generator[Reject, None, None]:
    """Yield every rejected uid of a run and every blank or invalid row.

    Raises `UsageError` if no ledger has the run.
    """
    with open_run(state, run) as report:
        yield from report.rejects()


def find_unfinished(
    state: Path,
    run: str | None,
    target: tuple[str, str, str] | None = None,
    busy: Collection[CohortKey] = (),
) -> StoredRequest | None:
    """Return run `run`, or the latest unfinished one, or None if there is none.

    The latest is chosen from the runs of `target` (endpoint, workspace and partner), if given, that
    no later run of the same cohort has overtaken. A run that a process works on is also unfinished,
    unless its cohort is in `busy`: the caller itself works on these cohorts, of `target`.
    Raises `UsageError` if `run` is unknown, is a mirror, or cannot be resumed.
    """
    if run in {None, LATEST}:
        found = unfinished_runs(state, target, busy)
        # A run that read from a pipe can be resumed only by its own command.
        files = [each for each in found if not each.spec.reads_stdin]
        return next(reversed(files or found), None)
    with _ledger_with(state, str(run)) as (ledger, entry, _):
        request = ledger.history.request(entry.name)
    if entry.is_mirror:
        raise UsageError(
            f"run {entry.name} is a mirror, which is not resumed",
            hint="run the same mirror again: it makes a new plan from the current snapshot",
        )
    if entry.status in RESUMABLE:
        return request
    raise UsageError(
        f"run {entry.name} is {entry.status}: there is nothing to resume",
        hint=_HINTS.get(entry.status),
    )


def unfinished_runs(
    state: Path, target: tuple[str, str, str] | None, busy: Collection[CohortKey] = ()
) -> list[StoredRequest]:
    """Return the pushes that can be resumed, the earliest first; see `find_unfinished`."""
    found: list[StoredRequest] = []
    for path in ledgers(state):
        with LedgerReader.open(path) as ledger:
            found += ledger.history.resumable()
    found.sort(key=lambda request: request.started_utc_ns)
    return [
        each
        for each in found
        if target in {None, each.target}
        and not (each.status == RunStatus.RUNNING and each.cohort_key in busy)
    ]


_HINTS = {
    "finished": "the command that it was begun with starts a new run",
    "abandoned": "it was closed for good, or a new run of the same command took its place: "
    "`cohortsync runs` lists it",
    "unbalanced": "this is a bug in cohortsync; keep the state folder and report it",
}
"""The hint for a run that cannot be resumed, by its status."""
