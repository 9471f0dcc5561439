"""Why one uid is or is not in a mirrored cohort: its last request, and the API's answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from engine.errors import LedgerError, UsageError
from engine.ledger.plan_records import PlanRecord
from engine.ledger.run_records import RunEntry, UidAttempt, UidRejection
from engine.ledger.snapshot_records import Generation
from engine.ledger.sqlite.access import ledger_in
from engine.ledger.sqlite.reader import LedgerReader
from engine.model.cohort import Action, CohortKey, Operation
from engine.report.accounts import SCHEMA_VERSION, timestamp
from engine.snapshot.file_format import look_up
from engine.snapshot.operation_uids import kept_uids, position_of
from engine.snapshot.records import UidState
from engine.snapshot.store import IMPORTED, MIRRORED, RECONCILED, SORTED
from engine.storage.paths import operation_path, plan_folder, snapshot_folder

Document = dict[str, Any]
"""A part of the answer, as plain values."""


@dataclass(frozen=True, slots=True)
class UidReport:
    """What is known about one uid in one cohort; nested values have the form of `why --json`."""

    uid: str
    cohort_id: str
    membership: str
    """`in`, `out`, `unknown` or `not mirrored`."""
    state: str | None
    """In the snapshot: `in`, `may_be_in`, `out`, `may_be_out`; None if the uid is not in it."""
    generation: int | None
    """The snapshot that was read."""
    since: Mapping[str, Any] | None
    last_export: Mapping[str, Any] | None
    pushed: Mapping[str, Any] | None
    rejections: Sequence[Mapping[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `why`."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


class UidReads(Protocol):
    """The data about a uid of a cohort; a recorded run is one whose uids are kept in files."""

    def generations(self, key: CohortKey) -> Sequence[Generation]:
        """Return every snapshot of a cohort, the current one first."""

    def plan_of(self, run: int) -> PlanRecord | None:
        """Return the plan of a mirror; None if there is none."""

    def is_partial(self, key: CohortKey) -> bool:
        """Return whether uids that the snapshot does not have may be members."""

    def recorded_run(self, key: CohortKey, run: int) -> Sequence[RunEntry]:
        """Return the recorded run of the cohort with number `run`; empty if there is none."""

    def recorded_since(self, key: CohortKey, attempt: int) -> Sequence[RunEntry]:
        """Return the recorded runs with an attempt after `attempt`, the latest first."""

    def not_in_snapshot(self, key: CohortKey) -> Sequence[RunEntry]:
        """Return the recorded runs with attempts that no snapshot includes, the latest first."""

    def planned_runs(self, key: CohortKey) -> Sequence[RunEntry]:
        """Return the mirrors that have made a plan, the latest first."""

    def last_attempt(self, run: int, operation: Operation, place: int) -> UidAttempt | None:
        """Return the last attempt of the batch that contained a place; None if there was none."""

    def unrecorded_pushes(self, key: CohortKey) -> Sequence[RunEntry]:
        """Return the pushes whose uids no snapshot includes, the earliest first."""

    def rejections(self, key: CohortKey, uid: str) -> Sequence[UidRejection]:
        """Return each run's rejection of a uid, the earliest first."""


LookUp = Callable[[Path, str], tuple[UidState, int] | None]
"""Returns a uid's state in the generation with a file, and the run since which it has it; None if
it is not in it. Raises `LedgerError`."""


def find_uid(
    folder: Path, key: CohortKey, uid: str, look_up_in: LookUp = look_up
) -> UidReport | None:
    """Return what is known about a uid; None if nothing was ever sent from `folder`.

    `folder` is the ledger's. It is only read, so a current run is not disturbed. Raises
    `UsageError` for a cohort that is not in the ledger, and `LedgerError` if the ledger or a file
    next to it cannot be read.
    """
    if (path := ledger_in(folder)) is None:
        return None
    with LedgerReader.open(path) as ledger:
        if not ledger.uids.knows_cohort(key):
            raise UsageError(
                f"nothing is known of cohort {key.cohort_id} of partner {key.partner}",
                hint="`cohortsync runs` lists the cohorts that something was sent to",
            )
        return UidInquiry(ledger.uids, folder, key, uid, look_up_in).report()


_MEMBERSHIP = {UidState.IN: "in", UidState.OUT: "out"}


def _membership_after(attempt: Mapping[str, Any]) -> str:
    """Return the membership that results from the last attempt."""
    if attempt["outcome"] != "accepted":
        return "unknown"
    return "in" if attempt["action"] == Action.ADD.value else "out"


class UidInquiry:
    """Finds what the ledger and the files next to it record about one uid of a cohort."""

    def __init__(
        self,
        reads: UidReads,
        folder: Path,
        key: CohortKey,
        uid: str,
        look_up_in: LookUp = look_up,
    ) -> None:
        """`folder` is the ledger's: uids of plans and snapshots are in files below it."""
        self._reads = reads
        self._folder = folder
        self._key = key
        self._uid = uid
        self._look_up_in = look_up_in
        self._generations = reads.generations(key)

    def report(self) -> UidReport:
        """Return all that is known."""
        reads, key = self._reads, self._key
        snapshot = next(iter(self._generations), None)
        known = self._look_up(snapshot) if snapshot else None
        state, run = known or (None, None)
        # Attempts that the snapshot does not include yet are later than all that it includes.
        since = next(self._attempts(reads.not_in_snapshot(key)), None)
        if since is not None:
            membership = _membership_after(since)
        elif state is not None and run is not None:
            membership = _MEMBERSHIP.get(state, "unknown")
            since = next(self._attempts(self._reads.recorded_run(self._key, run)), None)
        elif snapshot:
            later = reads.recorded_since(key, self._replaced_through())
            attempts = list(self._attempts(later))
            since = next(iter(attempts), None)
            membership = self._membership_of_absent(attempts)
        else:
            membership = "not mirrored"
        return UidReport(
            uid=self._uid,
            cohort_id=key.cohort_id,
            membership=membership,
            state=state.name.lower() if state else None,
            generation=snapshot.number if snapshot else None,
            since=since or self._since(snapshot, run),
            last_export=self._last_export(),
            pushed=self._pushed(),
            rejections=self._rejections(),
        )

    def _membership_of_absent(self, attempts: list[Document]) -> str:
        """Return the membership of a uid that is not in the snapshot."""
        for attempt in attempts:
            if attempt["outcome"] in {"accepted", "unconfirmed", None}:
                # If it was added last, the record of the addition is no longer kept.
                return "unknown" if attempt["action"] == Action.ADD.value else "out"
        # A push that was not recorded may have added it, or somebody before lists of changes.
        is_unknown = self._reads.unrecorded_pushes(self._key) or self._reads.is_partial(self._key)
        return "unknown" if is_unknown else "out"

    def _replaced_through(self) -> int:
        """Return the last attempt that a complete list of the members supersedes, or 0."""
        lists = (each for each in self._generations if each.origin in {IMPORTED, RECONCILED})
        return max((each.last_attempt for each in lists), default=0)

    def _look_up(self, snapshot: Generation) -> tuple[UidState, int] | None:
        if snapshot.file is None:
            raise LedgerError(f"generation {snapshot.number} is no longer kept")
        return self._look_up_in(snapshot_folder(self._folder, self._key) / snapshot.file, self._uid)

    def _attempts(self, runs: Iterable[RunEntry]) -> Iterator[Document]:
        """Yield the last attempt to send the uid, of each operation of each of `runs`."""
        for run in runs:
            folder = plan_folder(self._folder, run.name)
            for operation in Operation:
                for position in kept_uids(folder, operation).positions_of(self._uid):
                    attempt = self._reads.last_attempt(run.number, operation, position)
                    if attempt is not None:
                        yield _attempt_document(run, operation, attempt)

    def _since(self, snapshot: Generation | None, run: int | None) -> Document | None:
        """Return the origin of a uid that is not in the files of any run.

        The files are no longer kept, or the uid came from an external list.
        """
        for found in self._reads.recorded_run(self._key, run) if run else ():
            return {"run": found.name, "at": timestamp(found.started_utc_ns)}
        if snapshot is None or (run is not None and run > 0):
            return None
        for external in self._generations:
            # The run of an old mirror's snapshot may be deleted.
            if external.run is None and external.origin not in {MIRRORED, SORTED}:
                return {
                    "generation": external.number,
                    "origin": external.origin,
                    "at": timestamp(external.made.utc_ns),
                }
        return None

    def _last_export(self) -> Document | None:
        """Return whether the last planned export had the uid; None if no plan is known."""
        run = next(iter(self._reads.planned_runs(self._key)), None)
        if run is None:
            return None
        return {
            "run": run.name,
            "at": timestamp(run.started_utc_ns),
            **self._in_export(run),
        }

    def _in_export(self, run: RunEntry) -> Document:
        """Return whether the export that a run planned had the uid; None if that is unknown.

        Of a list of changes, only the uids that it changes are known, and what is `planned`.
        """
        plan = self._reads.plan_of(run.number)
        if plan is None or not plan.lists_changes:
            return {"had_it": self._was_in_export(run, plan)}
        folder = plan_folder(self._folder, run.name)
        paths = {each: operation_path(folder, Operation(each)) for each in Action}
        planned = [
            each.value
            for each, path in paths.items()
            if path.exists() and position_of(path, self._uid) is not None
        ]
        return {"had_it": True if planned else None, "planned": next(iter(planned), None)}

    def _was_in_export(self, run: RunEntry, plan: PlanRecord | None) -> bool | None:
        """Return whether an export of all members had the uid; None if that is unknown."""
        folder = plan_folder(self._folder, run.name)
        adds = operation_path(folder, Operation.ADD)
        removes = operation_path(folder, Operation.REMOVE)
        if not (adds.exists() and removes.exists()):
            return None
        if position_of(adds, self._uid) is not None:
            return True
        if position_of(removes, self._uid) is not None:
            return False
        return self._was_unchanged(plan)

    def _was_unchanged(self, plan: PlanRecord | None) -> bool | None:
        """Return whether a uid that a plan did not change was a member: then the export had it."""
        number = plan and plan.generation
        if number is None:
            return False
        for snapshot in self._generations:
            if snapshot.number == number and snapshot.file is not None:
                known = self._look_up(snapshot)
                return known is not None and known[0] is UidState.IN
        return None

    def _pushed(self) -> Document | None:
        """Return the last run whose uids were not recorded, and how many such runs there were."""
        pushes = self._reads.unrecorded_pushes(self._key)
        if not pushes:
            return None
        return {
            "run": pushes[-1].name,
            "at": timestamp(pushes[-1].started_utc_ns),
            "action": pushes[-1].action,
            "status": pushes[-1].status,
            "runs": len(pushes),
        }

    def _rejections(self) -> list[Document]:
        return [
            {
                "run": rejection.run,
                "at": timestamp(rejection.at_utc_ns),
                "reason": rejection.reason,
                "request_id": rejection.request_id,
            }
            for rejection in self._reads.rejections(self._key, self._uid)
        ]


def _attempt_document(run: RunEntry, operation: Operation, attempt: UidAttempt) -> Document:
    return {
        "run": run.name,
        "action": operation.action.value,
        "batch": attempt.batch,
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "at": timestamp(attempt.at_utc_ns),
        "http_status": attempt.http_status,
        "request_id": attempt.request_id,
        "reason": attempt.reason,
    }
