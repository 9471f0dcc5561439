"""The runs in the ledgers of a state folder: accounts, plans, attempts and rejects."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UsageError
from engine.ledger.locks import cohort_holder, is_held
from engine.ledger.plan_records import PlanRecord
from engine.ledger.run_records import AttemptRecord, StoredRequest
from engine.ledger.sqlite.access import ledgers
from engine.ledger.sqlite.reader import LedgerReader
from engine.model.cohort import CohortKey, Operation
from engine.model.status import RESUMABLE, RunStatus
from engine.report.accounts import Accounts, account, timestamp
from engine.report.planned import plan_document
from engine.report.ports import RunReads
from engine.storage.paths import operation_path, plan_folder

if TYPE_CHECKING:  # Its package loads PyArrow, which a list of runs does not need.
    from collections.abc import Sequence

    from engine.source.source_file import SourceFile


class RunReport:
    """What is known of one run. It reads while its ledger is open; see `open_run`."""

    def __init__(self, reads: RunReads, folder: Path, name: str, *, is_older: bool = False) -> None:
        """`folder` is the ledger's: the uids of plans are in files below it.

        `is_older`: whether a version before this one has written the ledger.
        """
        self._is_older = is_older
        self._reads = reads
        self._folder = folder
        self._name = name

    def accounts(self, *, is_recounted: bool = False) -> Accounts:
        """Return the accounts; those of a run whose process has died are incomplete.

        With `is_recounted`, `LedgerError` says that totals which are stored with the run are not
        what its batches and attempts add up to.
        """
        accounts = account(self._reads.record(self._name, is_recounted=is_recounted))
        if accounts.status == RunStatus.RUNNING and not self._has_process(accounts):
            return replace(accounts, status=RunStatus.INCOMPLETE, reason="the process died")
        return accounts

    def _has_process(self, accounts: Accounts) -> bool:
        """Say whether a living process works on the run: it holds the lock of the run's cohort.

        A program of version 0.1 locks the whole workspace instead.
        """
        if self._is_older:
            return is_held(self._folder)
        key = CohortKey(accounts.partner, accounts.cohort_id)
        return cohort_holder(self._folder, key) is not None

    def files(self) -> "Sequence[SourceFile]":
        """Return the files that the run read, in their order."""
        return self._reads.files(self._name)

    def plan(self) -> dict[str, Any] | None:
        """Return what a mirror plans, as plain values; None for a push, or if it had no plan."""
        record = self._reads.plan(self._name)
        return None if record is None else plan_document(record)

    def lifted_guards(self) -> "Sequence[dict[str, Any]]":
        """Return which guards were lifted for a push, by whom and why."""
        return self._reads.lifted_guards(self._name)

    def attempts(self) -> Iterator[Mapping[str, Any]]:
        """Yield every attempt beside its batch, by `ATTEMPT_COLUMNS`; see `RunReads.attempts`."""
        return map(_attempt_document, self._reads.attempts(self._name))

    def rejects(self) -> Iterator[Mapping[str, Any]]:
        """Yield every uid rejected and every row that planned none, one by one, in export order.

        Keys are `REJECT_COLUMNS`: `kind` is `rejected`, `invalid` or `blank`; `uid` and
        `request_id` are of rejected uids only. The uids of a mirror that an earlier run had
        rejected come first, as long as its plan is kept.
        """
        if (plan := self._reads.plan(self._name)) is not None:
            yield from self._known_rejects(plan)
        for found in self._reads.rejects(self._name):
            for record in range(found.record, found.record + found.count):
                values = (found.kind, found.file, record, found.reason, found.uid, found.request_id)
                yield dict(zip(REJECT_COLUMNS, values, strict=True))

    def _known_rejects(self, plan: PlanRecord) -> Iterator[Mapping[str, Any]]:
        """Yield the uids that a mirror did not send, with why they were rejected before."""
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
                    reason = f"left alone, as run {earlier.run} has it: {earlier.reason}"
                    values = ("rejected", file, record, reason, uid, earlier.request_id)
                    yield dict(zip(REJECT_COLUMNS, values, strict=True))


REJECT_COLUMNS = ("kind", "file", "record", "reason", "uid", "request_id")
"""The keys of `RunReport.rejects`."""

ATTEMPT_COLUMNS = (
    *("batch", "parent", "first_uid", "uid_count", "payload_bytes", "state"),
    *("may_have_been_applied", "attempt", "intended_at", "sent_at", "ended_at", "outcome"),
    *("http_status", "request_id", "reason"),
)
"""The keys of `RunReport.attempts`."""


def _attempt_document(attempt: AttemptRecord) -> Mapping[str, Any]:
    """Return the record with times as ISO 8601."""
    values = attempt._asdict()
    for name in ("intended", "sent", "ended"):
        utc_ns = values[f"{name}_utc_ns"]
        values[f"{name}_at"] = None if utc_ns is None else timestamp(utc_ns)
    return {name: values[name] for name in ATTEMPT_COLUMNS}


def all_runs(state: Path) -> list[Accounts]:
    """Return the accounts of every run, the latest first; raises as `ledgers` does."""
    found: list[Accounts] = []
    for path in ledgers(state):
        with LedgerReader.open(path) as ledger:
            names = ledger.history.names()
            found += [
                RunReport(ledger.history, path.parent, name, is_older=ledger.is_older).accounts()
                for name in names
            ]
    return sorted(found, key=lambda accounts: accounts.started_at, reverse=True)


@contextmanager
def open_run(state: Path, name: str) -> Iterator[RunReport]:
    """Open the ledger that knows a run, for the block; `UsageError` if none does.

    Raises `LedgerError` where a ledger cannot be read, also where the block finds out.
    """
    path = find_ledger(state, name)
    with LedgerReader.open(path) as ledger:
        yield RunReport(ledger.history, path.parent, name, is_older=ledger.is_older)


def find_ledger(state: Path, run: str) -> Path:
    """Return the ledger that knows `run`; raises `UsageError` if none does."""
    for path in ledgers(state):
        with LedgerReader.open(path) as ledger:
            if ledger.history.entry(run) is not None:
                return path
    raise UsageError(
        f"no run {run} in the state folder {state}", hint="`cohortsync runs` lists them"
    )


def find_unfinished(
    state: Path, run: str | None, target: tuple[str, str, str] | None = None
) -> StoredRequest | None:
    """Return run `run`, or the latest unfinished one, or None if there is none.

    The latest is taken from those of `target` (endpoint, workspace and partner), if given, which
    no later run of the same cohort has overtaken. A run that a process works on is unfinished, too.
    Raises `UsageError` if `run` is unknown, is a mirror, or cannot be resumed.
    """
    if run is None:
        found = unfinished_runs(state, target)
        # A run that read from a pipe can be resumed only by its own command.
        files = [each for each in found if not each.spec.reads_stdin]
        return next(reversed(files or found), None)
    with LedgerReader.open(find_ledger(state, run)) as ledger:
        entry = ledger.history.entry(run)
        request = ledger.history.request(run)
    if entry is None:
        raise RuntimeError("a run is never deleted")
    if entry.is_mirror:
        raise UsageError(
            f"run {run} is a mirror, which is not resumed",
            hint="run the same mirror again: it plans anew, from what the API has acknowledged",
        )
    if entry.status in RESUMABLE:
        return request
    raise UsageError(
        f"run {run} is {entry.status}: there is nothing to resume", hint=_HINTS.get(entry.status)
    )


def unfinished_runs(state: Path, target: tuple[str, str, str] | None) -> list[StoredRequest]:
    """Return the pushes that can be resumed, the earliest first; see `find_unfinished`."""
    found: list[StoredRequest] = []
    for path in ledgers(state):
        with LedgerReader.open(path) as ledger:
            found += ledger.history.resumable()
    found.sort(key=lambda request: request.started_utc_ns)
    return [each for each in found if target in {None, each.target}]


_HINTS = {
    "finished": "the command that it was begun with starts a new run",
    "abandoned": "a new run of the same command took its place: `cohortsync runs` lists it",
    "unbalanced": "this is a bug in cohortsync; keep the state folder and report it",
}
"""What to do about a run that cannot be resumed, by its status."""
