"""One cohort's snapshots: which one is current, and how it is updated with what was sent.

A snapshot is replaced in one step: its file is on the disk, fsynced, before one transaction of the
ledger names it. A process that dies before that leaves a file that the ledger does not name, and
the next process folds the same attempts again.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.cancellation import run_in_thread
from engine.clock import Clock
from engine.errors import LedgerError, UsageError
from engine.ledger.snapshot_records import Generation, RangeOutcome, Unfolded
from engine.ledger.state_folder import make_folder
from engine.model.cohort import CohortKey, Operation
from engine.snapshot.fold import RunChanges
from engine.snapshot.lost_ledger import generations_in, lost_ledger, moved_elsewhere, unknown
from engine.snapshot.operation_uids import kept_uids
from engine.snapshot.ports import SnapshotBackend, SnapshotFence, SnapshotIndex, SoleHost
from engine.snapshot.records import Census, HeldChanges, Snapshot
from engine.snapshot.settings import MirrorSettings
from engine.storage.computation import Compute, ComputeOptions, Interruption, compute_in_thread
from engine.storage.files import work_folder
from engine.storage.paths import (
    TemporaryName,
    TemporaryPurpose,
    generation_path,
    is_uid_file,
    plan_folder,
    snapshot_folder,
)
from engine.storage.settings import PlanningSettings
from engine.storage.temporary import remove_abandoned_folders, remove_abandoned_parts

MIRRORED = "mirror"
"""Origin of snapshots that include what a mirror, or a recorded push, has sent."""
ADOPTED, IMPORTED, RECONCILED = "adopt", "import", "reconcile"
"""Origins of imported snapshots; for the first two, another program may have sent the uids
recently."""
ASSUMED_EMPTY, TRUSTED = "assume-empty", "trust"
"""Origins of snapshots that replace a lost one."""
SORTED = "sort"
"""Origin of a snapshot with the same content as the one before, which an older version wrote."""
RESTORED = "restore"
"""Origin of a snapshot from a backup: each of its uids may have changed after the backup."""
_REPLACING = frozenset({IMPORTED, RECONCILED, ASSUMED_EMPTY})
"""Origins of snapshots that do not go by the one before them."""
_FROM_ELSEWHERE = frozenset({ADOPTED, IMPORTED, RESTORED})
"""Origins of snapshots whose uids another program, or a lost run, may have sent recently."""


@dataclass(frozen=True, slots=True)
class Recent:
    """What the API may not have applied yet."""

    runs: list[int]
    """The runs that sent it; 0 stands for all that another program has sent."""
    seconds: float
    """Seconds until it is applied; 0 if there is nothing."""
    waiting: HeldChanges
    """The kinds of changes that wait as a whole, since it is unknown what they might reverse."""


@dataclass(eq=False)
class SnapshotStore:
    """The snapshots of one cohort, beside the ledger that names them."""

    _root: Path
    """The ledger's folder."""
    _index: SnapshotIndex
    key: CohortKey
    _settings: MirrorSettings
    planning: PlanningSettings
    _clock: Clock
    backend: SnapshotBackend
    compute: Compute = compute_in_thread
    fence: SnapshotFence = field(default_factory=SoleHost)
    _files: ExitStack = field(default_factory=ExitStack)
    _written: dict[Snapshot, Snapshot] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the snapshots' files; it need not exist yet."""
        return snapshot_folder(self._root, self.key)

    @property
    def now_utc_ns(self) -> int:
        """The time, in ns since 1970."""
        return self._clock.stamp().utc_ns

    def plan_folder(self, run: str) -> Path:
        """Return the folder that holds the uids of a plan, by the name of its run."""
        return plan_folder(self._root, run)

    def make_plan_folder(self, run: str) -> Path:
        """Create that folder; raises as `make_folder` does."""
        folder = self.plan_folder(run)
        make_folder(folder)
        return folder

    async def generations(self) -> list[Generation]:
        """Return every snapshot that was made, the current one first."""
        return await self._index.generations(self.key)

    async def find(self, number: int | None) -> Generation:
        """Return a generation, by default the current one; `UsageError` if there is none."""
        for generation in await self.generations():
            if number in {None, generation.number}:
                return generation
        named = "snapshot" if number is None else f"generation {number}"
        raise UsageError(
            f"cohort {self.key.cohort_id} has no {named}",
            hint="`cohortsync snapshot list` lists them",
        )

    async def current(self) -> tuple[Generation, Snapshot] | None:
        """Return the current snapshot; None if the cohort was never mirrored.

        Raises `LedgerError` if its file is lost, or differs from the ledger's record, and if files
        show that the ledger itself was lost, or is an old copy.
        """
        await self.refuse_lost_ledger()
        generation = await self._index.current(self.key)
        return None if generation is None else (generation, await self._verified(generation))

    async def refuse_lost_ledger(self) -> None:
        """Raise `LedgerError` if files show that the ledger was lost, or is an old copy."""
        files, elsewhere = await self._unknown()
        if files:
            raise lost_ledger(generation_path(self.folder, max(files)))
        if elsewhere:
            raise moved_elsewhere(self.key, elsewhere)

    async def _unknown(self) -> tuple[list[int], int]:
        """Return the generations that the ledger does not know: of files, and the latest elsewhere.

        The latter is 0 if there is none.
        """
        # In this order: a generation of another process is entered before it is made.
        files = generations_in(self.folder)
        elsewhere = await run_in_thread(self.backend.latest) or 0
        last = await self._index.current(self.key)
        making = await self._index.being_made(self.key)
        known = last.number if last else 0
        unknown_elsewhere = unknown([elsewhere], known, making)
        return unknown(files, known, making), max(unknown_elsewhere, default=0)

    async def refuse_stale(self) -> None:
        """Raise `LedgerError` if another host has moved the snapshot since this one did."""
        self.fence.refuse_stale(await self._known())

    async def _known(self) -> int:
        """Return the number of the latest generation that was made here, or whose making began."""
        last = await self._index.current(self.key)
        return max(last.number if last else 0, await self._index.being_made(self.key) or 0)

    async def verified(self, number: int | None) -> Snapshot:
        """Return the verified snapshot of a generation; `LedgerError` if its file has changed."""
        return await self._verified(await self.find(number))

    async def verify_all(self) -> list[tuple[Generation, str | None]]:
        """Return the snapshots that are kept, and the damage to each; None if there is none."""
        found: list[tuple[Generation, str | None]] = []
        for generation in await self.generations():
            if generation.file is None:
                continue
            problem = None
            try:
                await self._verified(generation, is_thorough=True)
            except LedgerError as error:
                problem = error.message
            found.append((generation, problem))
        return found

    async def _verified(self, generation: Generation, *, is_thorough: bool = False) -> Snapshot:
        if generation.file is None:
            raise LedgerError(
                f"generation {generation.number} of cohort {self.key.cohort_id} was dropped",
                hint="`mirror.keep_generations` says how many are kept",
            )
        census = Census(generation.members, generation.unknown, generation.out)
        snapshot = Snapshot(self.folder / generation.file, census, generation.digest)
        await run_in_thread(lambda: self.backend.verify(snapshot, is_thorough=is_thorough))
        return snapshot

    async def recent(self, but: int | None = None) -> Recent:
        """Return what may not have settled, without run `but`, which cannot wait for itself."""
        if self.key.is_shadow:
            return Recent([], 0.0, HeldChanges())
        now = self._clock.stamp()
        settle = self._settings.settle_seconds
        touches = await self._index.last_sends(self.key)
        left = {touch.run: settle - touch.sent.age_at(now) for touch in touches}
        brought = [each for each in await self.generations() if each.origin in _FROM_ELSEWHERE]
        if brought:
            left[0] = settle - brought[0].made.age_at(now)
        is_restored = any(
            each.origin == RESTORED and settle > each.made.age_at(now) for each in brought
        )
        runs = [run for run, seconds in left.items() if seconds > 0 and run != but]
        recent = [touch for touch in touches if touch.run in runs]
        unknown = is_restored or any(not touch.is_followed for touch in recent)
        has_resent = False
        for touch in recent:
            has_resent = has_resent or await self._index.has_resent(touch.run)
        return Recent(
            runs,
            max((left[run] for run in runs), default=0.0),
            HeldChanges(adds=unknown, removes=unknown or 0 in runs or has_resent),
        )

    async def catch_up(self, stays_open: int | None = None) -> None:
        """Update the snapshot with all that was sent; each run except `stays_open` is closed."""
        runs = [run.name for run in await self._index.runs_with_uids(self.key)]
        await run_in_thread(lambda: self._sweep(runs))
        await self._drop_old()
        for run in await self.unfolded():
            await self._fold(run, MIRRORED, is_closed=run.run != stays_open)

    async def move_shadow(
        self, run_number: int, name: str, planned: Mapping[Operation, int]
    ) -> None:
        """Update the snapshot as if all of a plan had been accepted; nothing of it was sent."""
        outcomes = [
            RangeOutcome(each, 0, count, is_accepted=True)
            for each, count in planned.items()
            if count
        ]
        await self._fold(
            Unfolded(run_number, name, 0, 0), "shadow", is_closed=True, outcomes=outcomes
        )

    def of_rows(
        self, maker: Callable[[Path, Interruption], Snapshot]
    ) -> Callable[[Path, ComputeOptions], Snapshot]:
        """Return what makes a generation of the rows that `maker` writes to a file."""
        return lambda target, options: self.backend.make(maker, target, options)

    async def make(  # noqa: PLR0913 - the maker, and one value a column of the ledger's record of it
        self,
        origin: str,
        maker: Callable[[Path, ComputeOptions], Snapshot],
        *,
        run_number: int | None = None,
        last_attempt: int | None = None,
        folds: Sequence[Unfolded] = (),
        stays_open: int | None = None,
        lifted: Sequence[Mapping[str, Any]] = (),
    ) -> Generation:
        """Make the snapshot that becomes current, and delete files that are no longer kept.

        `maker` is of the backend, see `of_rows`. It includes everything up to `last_attempt`, by
        default all that was sent, and the runs `folds`, whose plans are closed except that of run
        `stays_open`. `lifted` lists the guards that were lifted for it, by whom and why. Raises
        what `maker` and `SnapshotFence.confirm_move` do.
        """
        known = await self._known()
        last = await self._index.current(self.key)
        files, elsewhere = await self._unknown()
        number = 1 + max([last.number if last else 0, *files, elsewhere])
        make_folder(self.folder)
        await self._index.intend_to_make(self.key, number)
        path = generation_path(self.folder, number)
        made = await self.compute(
            lambda interruption: maker(path, self.compute_options(interruption))
        )
        census = made.census
        generation = Generation(
            *(number, run_number, made.path.name, made.digest),
            *(census.members, census.unknown, census.out, origin),
            *(self._clock.stamp(), last_attempt or 0, lifted),
        )
        if not self.key.is_shadow:
            # If this process dies between the two, the next one makes the same number again.
            await self.fence.confirm_move(number, known=known, takes_over=origin in _REPLACING)
        entered = await self._index.enter(
            *(self.key, generation, folds), knows_all=last_attempt is None, stays_open=stays_open
        )
        await self._drop_old()
        return entered

    async def unfolded(self) -> list[Unfolded]:
        """Return the runs that the snapshot does not include completely yet."""
        return await self._index.unfolded(self.key)

    async def sent_since(self, attempt: int) -> list[Unfolded]:
        """Return the runs that sent something after attempt `attempt`."""
        return await self._index.sent_since(self.key, attempt)

    async def range_outcomes(self, run: Unfolded, after: int) -> list[RangeOutcome]:
        """Return the outcomes of a run's attempts after attempt `after`."""
        return await self._index.range_outcomes(run.run, after)

    async def _fold(
        self,
        run: Unfolded,
        origin: str,
        *,
        is_closed: bool,
        outcomes: Sequence[RangeOutcome] | None = None,
    ) -> None:
        """Update the snapshot with the outcomes of a run's attempts so far."""
        base = await self.current()
        if outcomes is None:
            outcomes = await self.range_outcomes(run, run.folded_attempt)
        if not outcomes:
            number = base[0].number if base else None
            await self._index.mark_folded(run, number, is_closed=is_closed)
            return
        changes = self.changes(run, outcomes, await self.recent())
        await self.make(
            origin,
            lambda target, options: self.backend.fold(base and base[1], changes, target, options),
            run_number=run.run,
            last_attempt=run.last_attempt,
            folds=[run],
            stays_open=None if is_closed else run.run,
        )

    def changes(
        self, run: Unfolded, outcomes: Sequence[RangeOutcome], recent: Recent
    ) -> RunChanges:
        """Return what a run has changed by `outcomes`."""
        folder = self.plan_folder(run.name)
        operations = [kept_uids(folder, each) for each in (Operation.ADD, Operation.REMOVE)]
        return RunChanges(run.run, operations, outcomes, [*recent.runs, run.run])

    def compute_options(self, interruption: Interruption) -> ComputeOptions:
        """Return the options of a computation on snapshots."""
        return ComputeOptions(self.planning, interruption)

    def as_file(self, snapshot: Snapshot, interruption: Interruption) -> Snapshot:
        """Return a snapshot whose file holds the rows, until `close`; a thread calls this.

        Rows that are in a database are written to a file of the session, once.
        """
        if is_uid_file(snapshot.path.name):
            return snapshot
        if snapshot not in self._written:
            target = self.session_folder / TemporaryName.ROWS.format(len(self._written))
            options = self.compute_options(interruption)
            self._written[snapshot] = self.backend.as_file(snapshot, target, options)
        return self._written[snapshot]

    def work_folder(self, purpose: TemporaryPurpose) -> AbstractContextManager[Path]:
        """Create a folder for files that are deleted after the block; raises as `new_file` does."""
        return work_folder(self.folder, purpose)

    @cached_property
    def session_folder(self) -> Path:
        """A folder for files that `close` deletes; raises as `new_file` does."""
        return self._files.enter_context(self.work_folder(TemporaryPurpose.SESSION))

    def close(self) -> None:
        """Delete the files of the session."""
        self._files.close()

    def _sweep(self, runs: Sequence[str]) -> None:
        """Delete unfinished files of processes that died: they are large and not needed.

        Only this cohort's runs are included: other processes may work on other cohorts.
        """
        if self.planning.spill_dir:
            remove_abandoned_folders(Path(self.planning.spill_dir))
        remove_abandoned_folders(self.folder)
        for folder in (self._root, self.folder, *map(self.plan_folder, runs)):
            remove_abandoned_parts(folder)

    async def _drop_old(self) -> None:
        """Delete what is no longer needed: first in the ledger, then the files."""
        known = await self.generations()
        old = [each for each in known[self._settings.keep_generations :] if each.file is not None]
        if old:
            await self._index.drop(self.key, [each.number for each in old])
        for generation in old:
            _delete(self.folder / str(generation.file))
        for run in await self._index.runs_with_uids(self.key):
            if not run.is_needed:
                _delete(self.plan_folder(run.name))


def _delete(path: Path) -> None:
    """Delete a file that is not needed; another user's file, which may not be deleted, is kept."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
