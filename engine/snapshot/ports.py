"""The interfaces that a store of snapshots needs: to the ledger, and to what keeps the rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from engine.ledger.snapshot_records import Generation, LastSend, RangeOutcome, RunUids, Unfolded
from engine.model.cohort import CohortKey
from engine.snapshot.fold import RunChanges
from engine.snapshot.records import Snapshot, UidState
from engine.storage.computation import ComputeOptions, Interruption


class SnapshotFence(Protocol):
    """Whether this process may still move a cohort's snapshot, among other hosts."""

    def refuse_stale(self, known: int) -> None:
        """Raise `LedgerError` if another ledger has moved the snapshot last.

        `known` is the latest generation that the ledger here knows.
        """

    async def confirm_move(self, generation: int, *, known: int, takes_over: bool) -> None:
        """Enter a move, unless `refuse_stale` raises; one that `takes_over` replaces all.

        Raises `IncompleteError` if another process works on the cohort now, or that is unknown.
        """


class SoleHost:
    """The fence of a cohort that no other host works on."""

    def refuse_stale(self, known: int) -> None:
        """Raise nothing."""

    async def confirm_move(self, generation: int, *, known: int, takes_over: bool) -> None:
        """Raise nothing."""


class SnapshotIndex(Protocol):
    """The snapshots that were made, and the runs each includes. Each change is durable at once."""

    async def current(self, key: CohortKey) -> Generation | None:
        """Return the current snapshot; None if the cohort was never mirrored."""

    async def generations(self, key: CohortKey) -> list[Generation]:
        """Return every snapshot that was made, the latest first."""

    async def intend_to_make(self, key: CohortKey, number: int) -> None:
        """Enter that a snapshot's file is about to be made."""

    async def being_made(self, key: CohortKey) -> int | None:
        """Return the number of a snapshot whose making has not ended; None if there is none."""

    async def enter(
        self,
        key: CohortKey,
        generation: Generation,
        folds: Sequence[Unfolded] = (),
        *,
        knows_all: bool,
        stays_open: int | None = None,
    ) -> Generation:
        """Make a snapshot, whose file is on the disk, the current one; return it."""

    async def drop(self, key: CohortKey, numbers: Sequence[int]) -> None:
        """Enter that the files of these snapshots are no longer kept."""

    async def unfolded(self, key: CohortKey) -> list[Unfolded]:
        """Return the runs that the snapshot does not include completely, in their order."""

    async def sent_since(self, key: CohortKey, attempt: int) -> list[Unfolded]:
        """Return the recorded runs that have sent anything after an attempt, in their order."""

    async def range_outcomes(self, run_number: int, after: int) -> list[RangeOutcome]:
        """Return the places of a run that attempts after `after` may have changed; disjoint."""

    async def mark_folded(self, run: Unfolded, generation: int | None, *, is_closed: bool) -> None:
        """Enter that the snapshot, as of this generation, includes a run's attempts so far."""

    async def last_sends(self, key: CohortKey) -> list[LastSend]:
        """Return each run that sent anything to the cohort, with its last request."""

    async def has_resent(self, run_number: int) -> bool:
        """Return whether a run has sent uids that were members already."""

    async def restored_from(self, key: CohortKey) -> int | None:
        """Return when the backup was made that a cohort's snapshot was restored from.

        None if it was not restored, or if a plan that was sent, or a complete list of the members,
        has replaced it since. In ns since 1970.
        """

    async def runs_with_uids(self, key: CohortKey) -> list[RunUids]:
        """Return the runs that may have uids beside the ledger, and whether any is needed."""


class SnapshotBackend(Protocol):
    """What keeps the rows of the snapshots of one cohort.

    Each generation has one file in the cohort's folder, whose name and digest the ledger records:
    the rows, or a record of the place where they are. The methods block, and run in threads.
    """

    def latest(self) -> int | None:
        """Return the number of the latest generation outside the folder; None if there is none."""

    def verify(self, snapshot: Snapshot, *, is_thorough: bool = False) -> None:
        """Raise `LedgerError` unless the generation is kept, and is what was made.

        If it `is_thorough`, rows that are elsewhere are counted.
        """

    def needs_sorting(self, snapshot: Snapshot) -> bool:
        """Return whether a snapshot is of an older version, and has to be written anew."""

    def make(
        self,
        maker: Callable[[Path, Interruption], Snapshot],
        target: Path,
        options: ComputeOptions,
    ) -> Snapshot:
        """Make a generation of the file that `maker` writes; return it, in place of the current.

        `target` is the path of the generation's file; the returned one may have another suffix.
        """

    def fold(
        self, base: Snapshot | None, changes: RunChanges, target: Path, options: ComputeOptions
    ) -> Snapshot:
        """Make the generation after `base`, in one step; `target` as for `make`.

        It may be called again after a process died in it. Raises `LedgerError`, and changes
        nothing, if another machine has replaced `base`.
        """

    def as_file(self, snapshot: Snapshot, target: Path, options: ComputeOptions) -> Snapshot:
        """Write the rows of a generation that are elsewhere to the file `target`, in any order."""

    def look_up(self, path: Path, uid: str) -> tuple[UidState, int] | None:
        """Return a uid's state in the generation with a file, and the run since which it has it.

        None if it is not in it.
        """
