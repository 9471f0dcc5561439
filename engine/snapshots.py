"""One cohort's snapshots: which one counts, and how it comes to know what was sent.

A snapshot moves in one step: its file is on the disk, fsynced, before one transaction of the ledger
names it. A process that dies in between leaves a file that nobody names, and the next one folds
the same attempts again.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from engine.clock import Clock
from engine.cohort import Leg
from engine.errors import LedgerError, UsageError
from engine.ledger import following, generations
from engine.ledger.beside import plan_folder, snapshot_folder
from engine.ledger.following import Fate, Unfolded
from engine.ledger.generations import Generation
from engine.ledger.ledger import Ledger
from engine.ledger.place import make_folder
from engine.ledger.records import CohortKey
from engine.plan.compare import leg_path
from engine.plan.files import new_file
from engine.plan.fold import FATES, LegFiles, fold
from engine.plan.recording import recorded
from engine.plan.records import Census, Snapshot
from engine.plan.settings import MirrorSettings, PlanningSettings
from engine.plan.snapshot_file import SNAPSHOT, describe, verify
from engine.plan.staging import write_batches

ADOPTED, IMPORTED = "adopt", "import"
"""Origins of snapshots whose uids another program may have sent a moment ago."""

Maker = Callable[[Path], Snapshot]
"""Writes a snapshot to a path."""


@dataclass(frozen=True, slots=True)
class Recent:
    """What the far side may not have applied yet."""

    runs: list[int]
    """The runs that sent it; 0 stands for whatever another program has sent."""
    seconds: float
    """Until it has; 0 where there is nothing."""
    has_resent: bool
    """Whether members that were in already are among it."""


class SnapshotStore:
    """The snapshots of one cohort, beside the ledger that names them."""

    def __init__(  # noqa: PLR0913, PLR0917 - where, whose, and the two tables of settings
        self,
        folder: Path,
        ledger: Ledger,
        key: CohortKey,
        settings: MirrorSettings,
        planning: PlanningSettings,
        clock: Clock,
    ) -> None:
        self._root = folder
        self.folder = snapshot_folder(folder, key)
        """Where the files stand; it need not exist yet."""
        self._ledger = ledger
        self.key = key
        self._settings = settings
        self.planning = planning
        self._clock = clock

    def plan_folder(self, run: str) -> Path:
        """Return the folder that holds the uids of a plan, by the name of its run."""
        return plan_folder(self._root, run)

    def make_plan_folder(self, run: str) -> Path:
        """Make that folder; raises as `make_folder` does."""
        folder = self.plan_folder(run)
        make_folder(folder)
        return folder

    async def generations(self) -> list[Generation]:
        """Return every snapshot there was, the one that counts first."""
        return await self._ledger.write(lambda c: generations.generations(c, self.key))

    async def find(self, number: int | None) -> Generation:
        """Return a generation, by default the one that counts; `UsageError` if there is none."""
        for generation in await self.generations():
            if number in {None, generation.number}:
                return generation
        named = "snapshot" if number is None else f"generation {number}"
        raise UsageError(
            f"cohort {self.key.cohort_id} has no {named}",
            hint="`cohortsync snapshot list` lists them",
        )

    async def current(self) -> tuple[Generation, Snapshot] | None:
        """Return the snapshot that counts; None if the cohort was never mirrored.

        Raises `LedgerError` if its file is lost, or is not what the ledger says that it is.
        """
        generation = await self._ledger.write(lambda c: generations.current(c, self.key))
        return None if generation is None else (generation, await self._verified(generation))

    async def verified(self, number: int | None) -> Snapshot:
        """Return where a generation stands; `LedgerError` if it is not what it was."""
        return await self._verified(await self.find(number))

    async def verify_all(self) -> list[Generation]:
        """Return those that are kept; raises `LedgerError` for the first that is not whole."""
        kept = [each for each in await self.generations() if each.file is not None]
        for generation in kept:
            await self._verified(generation)
        return kept

    async def _verified(self, generation: Generation) -> Snapshot:
        if generation.file is None:
            raise LedgerError(
                f"generation {generation.number} of cohort {self.key.cohort_id} was dropped",
                hint="`mirror.keep_generations` says how many are kept",
            )
        census = Census(generation.members, generation.unknown, generation.out)
        snapshot = Snapshot(self.folder / generation.file, census, generation.digest)
        await asyncio.to_thread(verify, snapshot)
        return snapshot

    async def recent(self, but: int | None = None) -> Recent:
        """Return what may not have settled; run `but` is left out, which can't wait for itself."""
        if self.key.is_shadow:
            return Recent([], 0.0, has_resent=False)
        now = self._clock.stamp()
        touches = await self._ledger.write(lambda c: following.touches(c, self.key))
        settle = self._settings.settle_seconds
        left = {touch.run: settle - touch.sent.age_at(now) for touch in touches}
        brought = [
            each.made_utc_ns
            for each in await self.generations()
            if each.origin in {ADOPTED, IMPORTED}
        ]
        left[0] = settle - max(0, now.utc_ns - max(brought, default=0)) / 1e9
        runs = [run for run, seconds in left.items() if seconds > 0 and run != but]
        return Recent(
            runs,
            max((left[run] for run in runs), default=0.0),
            any(touch.has_resent and touch.run in runs for touch in touches),
        )

    async def catch_up(self, stays_open: int | None = None) -> None:
        """Let the snapshot know of all that was sent; each run but `stays_open` is closed."""
        await asyncio.to_thread(self._sweep)
        for run in await self._ledger.write(lambda c: following.unfolded(c, self.key)):
            await self._fold(run, "mirror", is_closed=run.run != stays_open)

    async def move_shadow(self, run: int, name: str, planned: Mapping[Leg, int]) -> None:
        """Let the snapshot move as if all of a plan had been accepted; nothing of it was sent."""
        fates = [Fate(leg, 0, count, is_accepted=True) for leg, count in planned.items() if count]
        await self._fold(Unfolded(run, name, 0), "shadow", is_closed=True, fates=fates)

    async def assume_empty(self) -> None:
        """Begin again with a snapshot that holds nothing, whatever became of the last."""

        def nobody(target: Path) -> Snapshot:
            write_batches(target, SNAPSHOT, [])
            return describe(target)

        unfolded = await self._ledger.write(lambda c: following.unfolded(c, self.key))
        await self.make("assume-empty", nobody, folds=unfolded)

    async def trust(self, number: int) -> None:
        """Go on from an older snapshot; every uid that was touched since is unknown."""
        trusted = await self.find(number)
        base = await self.verified(number)
        since = await self._ledger.write(
            lambda c: following.sent_since(c, self.key, trusted.last_attempt)
        )
        for run in since:
            if not self.plan_folder(run.name).exists():
                raise LedgerError(
                    f"what run {run.name} has sent since generation {number} is not kept",
                    hint="pass --assume-empty, or trust a later generation",
                )
        doubts = [
            (run, [replace(fate, is_accepted=False) for fate in await self._fates(run)])
            for run in since
        ]
        recent = await self.recent()

        def doubted(target: Path) -> Snapshot:
            """Fold one run after the other; only the last file is to be named."""
            with new_file(target) as copy, base.path.open("rb") as old:
                shutil.copyfileobj(old, copy)
            snapshot = describe(target)
            for run, fates in doubts:
                earlier = target.with_name("trusted.parquet")
                target.replace(earlier)
                try:
                    old_one = replace(snapshot, path=earlier)
                    snapshot = self._folded(old_one, run, fates, recent.runs, target)
                finally:
                    earlier.unlink()
            return snapshot

        await self.make("trust", doubted, folds=since)

    async def make(  # noqa: PLR0913 - how, and what the ledger is to know of it
        self,
        origin: str,
        maker: Maker,
        *,
        run: int | None = None,
        last_attempt: int | None = None,
        folds: Sequence[Unfolded] = (),
        stays_open: int | None = None,
    ) -> Generation:
        """Make the snapshot that counts from now on, and drop what is no longer kept.

        It knows of everything up to `last_attempt`, by default of all that was sent, and takes
        `folds` into account, which are closed but for run `stays_open`. Raises what `maker` does.
        """
        last = await self._ledger.write(lambda c: generations.current(c, self.key))
        number = last.number + 1 if last else 1
        make_folder(self.folder)
        made = await asyncio.to_thread(maker, self.folder / f"{number:06}.parquet")
        census, now = made.census, self._clock.stamp().utc_ns
        generation = Generation(
            number,
            run,
            made.path.name,
            made.digest,
            census.members,
            census.unknown,
            census.out,
            origin,
            now,
            last_attempt or 0,
        )

        def work(connection: sqlite3.Connection) -> Generation:
            known = last_attempt
            if known is None:
                known = following.last_attempt(connection)
            entered = replace(generation, last_attempt=known)
            generations.enter(connection, self.key, entered)
            for each in folds:
                is_closed = each.run != stays_open
                following.note_folded(connection, each, number, is_closed=is_closed)
            return entered

        entered = await self._ledger.write(work)
        await self._drop_old()
        return entered

    async def _fates(self, run: Unfolded) -> list[Fate]:
        return await self._ledger.write(lambda c: following.fates(c, run.run))

    async def _fold(
        self, run: Unfolded, origin: str, *, is_closed: bool, fates: list[Fate] | None = None
    ) -> None:
        """Let the snapshot know of what became of a run's attempts so far."""
        base = await self.current()
        fates = await self._fates(run) if fates is None else fates
        if not fates:
            number = base[0].number if base else None
            await self._ledger.write(
                lambda c: following.note_folded(c, run, number, is_closed=is_closed)
            )
            return
        recent = await self.recent()
        await self.make(
            origin,
            lambda target: self._folded(base and base[1], run, fates, recent.runs, target),
            run=run.run,
            last_attempt=run.last_attempt,
            folds=[run],
            stays_open=None if is_closed else run.run,
        )

    def _folded(
        self,
        base: Snapshot | None,
        run: Unfolded,
        fates: list[Fate],
        recent: list[int],
        target: Path,
    ) -> Snapshot:
        return fold(
            base,
            {leg: self._leg_files(run.name, leg) for leg in (Leg.ADD, Leg.REMOVE)},
            _table(fates),
            run=run.run,
            recent_runs=[*recent, run.run],
            target=target,
            settings=self.planning,
        )

    def _leg_files(self, run: str, leg: Leg) -> LegFiles:
        """Return the files that hold a leg's uids: one of a plan, many of a push."""
        whole = leg_path(self.plan_folder(run), leg)
        if whole.exists():
            return {0: whole}
        return recorded(self.plan_folder(run), leg)

    def _sweep(self) -> None:
        """Delete what processes that died were about to make: large files, and of no use."""
        for pattern in ("*/export.parquet", "*/spill-*/*", "*/*.part"):
            for path in plan_folder(self._root, "").glob(pattern):
                path.unlink(missing_ok=True)
        for pattern in ("*.part", "*.changed", "adopted.parquet", "trusted.parquet", "spill-*/*"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    async def _drop_old(self) -> None:
        """Drop what the retention no longer keeps: the ledger first, then the files."""
        kept = self._settings.keep_generations
        known = await self._ledger.write(lambda c: generations.generations(c, self.key))
        old = [generation for generation in known[kept:] if generation.file is not None]
        if not old:
            return
        names = await self._ledger.write(
            lambda c: generations.drop(c, self.key, [each.number for each in old])
        )
        for generation in old:
            (self.folder / str(generation.file)).unlink(missing_ok=True)
        for name in names:
            shutil.rmtree(self.plan_folder(name), ignore_errors=True)


def _table(fates: list[Fate]) -> pa.Table:
    return pa.table(
        {
            "leg": [fate.leg.value for fate in fates],
            "first_uid": [fate.first_uid for fate in fates],
            "uid_count": [fate.uid_count for fate in fates],
            "is_accepted": [fate.is_accepted for fate in fates],
        },
        schema=FATES,
    )
