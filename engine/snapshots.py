"""One cohort's snapshots: which one counts, and how it comes to know what a mirror has sent.

A snapshot moves in one step: its file is on the disk, fsynced, before one transaction of the ledger
names it. A process that dies in between leaves a file that nobody names, and the next one folds
the same attempts again.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from engine.clock import Clock
from engine.cohort import Leg
from engine.errors import IncompleteError, LedgerError, UsageError
from engine.ledger import mirrors
from engine.ledger.beside import plan_folder, snapshot_folder
from engine.ledger.ledger import Ledger
from engine.ledger.mirrors import CohortKey, Fate, Generation, Unfolded
from engine.ledger.place import make_folder
from engine.plan.compare import compare, leg_path
from engine.plan.files import new_file
from engine.plan.fold import FATES, LegFiles, adopt, fold
from engine.plan.leg import sample
from engine.plan.recording import recorded
from engine.plan.records import Census, Snapshot, UidState
from engine.plan.settings import MirrorSettings, PlanningSettings
from engine.plan.snapshot_file import SNAPSHOT, check_snapshot, describe, uids_in, verify
from engine.plan.staging import UIDS, read_batches, stage, write_batches
from engine.source.block import Block

_SHOWN = 10
"""Uids of each kind that a comparison shows."""
_FROM_ELSEWHERE = ("adopt", "import")
"""Origins of snapshots whose uids another program may have sent a moment ago."""


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
        self._folder = snapshot_folder(folder, key)
        self._ledger = ledger
        self._key = key
        self._settings = settings
        self._planning = planning
        self._clock = clock

    def plan_folder(self, run: str) -> Path:
        """Return the folder that holds the uids of a plan, by the name of its run."""
        return plan_folder(self._root, run)

    def make_plan_folder(self, run: str) -> Path:
        """Make that folder; raises as `make_folder` does."""
        folder = self.plan_folder(run)
        make_folder(folder)
        return folder

    async def current(self) -> tuple[Generation, Snapshot] | None:
        """Return the snapshot that counts; None if the cohort was never mirrored.

        Raises `LedgerError` if its file is lost, or is not what the ledger says that it is.
        """
        generation = await self._ledger.write(lambda c: mirrors.current(c, self._key))
        if generation is None:
            return None
        snapshot = self.snapshot_of(generation)
        await asyncio.to_thread(verify, snapshot)
        return generation, snapshot

    def snapshot_of(self, generation: Generation) -> Snapshot:
        """Return where a generation stands; raises `LedgerError` for one that was dropped."""
        if generation.file is None:
            raise LedgerError(
                f"generation {generation.number} of cohort {self._key.cohort_id} was dropped",
                hint="`mirror.keep_generations` says how many are kept",
            )
        census = Census(generation.members, generation.unknown, generation.out)
        return Snapshot(self._folder / generation.file, census, generation.digest)

    async def recent(self, but: int | None = None) -> Recent:
        """Return what may not have settled; run `but` is left out, which can't wait for itself."""
        if self._key.is_shadow:
            return Recent([], 0.0, has_resent=False)
        now = self._clock.stamp()
        touches = await self._ledger.write(lambda c: mirrors.touches(c, self._key))
        settle = self._settings.settle_seconds
        left = {touch.run: settle - touch.sent.age_at(now) for touch in touches}
        brought = [g.made_utc_ns for g in await self.generations() if g.origin in _FROM_ELSEWHERE]
        left[0] = settle - max(0, now.utc_ns - max(brought, default=0)) / 1e9
        runs = [run for run, seconds in left.items() if seconds > 0 and run != but]
        return Recent(
            runs,
            max((left[run] for run in runs), default=0.0),
            any(touch.has_resent and touch.run in runs for touch in touches),
        )

    async def catch_up(self, stays_open: int | None = None) -> None:
        """Let the snapshot know of all that mirrors have sent; each but `stays_open` is closed."""
        await asyncio.to_thread(self._sweep)
        for mirror in await self._ledger.write(lambda c: mirrors.unfolded(c, self._key)):
            fates = await self._fates(mirror)
            await self._fold(mirror, fates, "mirror", is_closed=mirror.run != stays_open)
        await self._drop_old()

    async def assume_empty(self) -> None:
        """Begin again with a snapshot that holds nothing, whatever became of the last."""
        number = await self._last_number() + 1
        made = await asyncio.to_thread(self._make_empty, number)
        unfolded = await self._ledger.write(lambda c: mirrors.unfolded(c, self._key))

        def work(connection: sqlite3.Connection) -> None:
            for mirror in unfolded:
                mirrors.note_folded(
                    connection, mirror.run, mirror.last_attempt, number, is_closed=True
                )
            mirrors.enter_generation(connection, self._key, _informed(connection, made))

        await self._ledger.write(work)

    async def trust(self, number: int) -> None:
        """Go on from an older snapshot; every uid that was touched since is unknown."""
        trusted = await self.find(number)
        base = await self.verified(number)
        since = await self._ledger.write(
            lambda c: mirrors.sent_since(c, self._key, trusted.last_attempt)
        )
        for mirror in since:
            if not self.plan_folder(mirror.name).exists():
                raise LedgerError(
                    f"what run {mirror.name} has sent since generation {number} is not kept",
                    hint="pass --assume-empty, or trust a later generation",
                )
        again = replace(
            await asyncio.to_thread(self._copy, base, await self._last_number() + 1, "trust"),
            last_attempt=trusted.last_attempt,
        )
        await self._ledger.write(lambda c: mirrors.enter_generation(c, self._key, again))
        for mirror in since:
            doubted = [replace(fate, is_accepted=False) for fate in await self._fates(mirror)]
            await self._fold(mirror, doubted, "trust", is_closed=True)

    async def adopt(self, blocks: Iterable[Block]) -> Generation:
        """Let each uid of `blocks` that is not known yet be unknown: perhaps it is a member."""
        base = await self.current()
        return await self._take_over(base[1] if base else None, blocks, UidState.MAY_BE_IN, "adopt")

    async def reconcile(self, blocks: Iterable[Block]) -> Generation:
        """Let the uids of `blocks` be all members, whatever was known before.

        Raises `IncompleteError` while the far side may not have applied what was sent: no list can
        tell of that.
        """
        recent = await self.recent()
        if recent.seconds:
            raise IncompleteError(
                f"what was sent to cohort {self._key.cohort_id} may not have been applied yet",
                hint=f"reconcile it with a list that is taken in {recent.seconds:,.0f} s or later",
            )
        return await self._take_over(None, blocks, UidState.IN, "reconcile")

    async def _take_over(
        self, base: Snapshot | None, blocks: Iterable[Block], state: UidState, origin: str
    ) -> Generation:
        number = await self._last_number() + 1
        made = await asyncio.to_thread(self._adopt, base, blocks, state, number, origin)
        return await self._enter(made)

    async def _enter(self, generation: Generation) -> Generation:
        await self._ledger.write(
            lambda c: mirrors.enter_generation(c, self._key, _informed(c, generation))
        )
        await self._drop_old()
        return generation

    def _adopt(
        self,
        base: Snapshot | None,
        blocks: Iterable[Block],
        state: UidState,
        number: int,
        origin: str,
    ) -> Generation:
        target = self._target(number)
        staged = target.with_name("adopted.parquet")
        try:
            uids = stage(blocks, staged).uids
            made = adopt(base, staged, uids, state, target=target, settings=self._planning)
        finally:
            staged.unlink(missing_ok=True)
        return self._generation(made, number, None, origin)

    async def move_shadow(self, run: int, name: str, planned: Mapping[Leg, int]) -> None:
        """Let the snapshot move as if all of a plan had been accepted; nothing of it was sent."""
        fates = [Fate(leg, 0, count, is_accepted=True) for leg, count in planned.items() if count]
        await self._fold(Unfolded(run, name, 0), fates, "shadow", is_closed=True)
        await self._drop_old()

    async def generations(self) -> list[Generation]:
        """Return every snapshot there was, the one that counts first."""
        return await self._ledger.write(lambda c: mirrors.generations(c, self._key))

    async def verify_all(self) -> list[Generation]:
        """Return those that are kept; raises `LedgerError` for the first that is not whole."""
        kept = [each for each in await self.generations() if each.file is not None]
        for generation in kept:
            await asyncio.to_thread(verify, self.snapshot_of(generation))
        return kept

    async def find(self, number: int | None) -> Generation:
        """Return a generation, by default the one that counts; `UsageError` if there is none."""
        for generation in await self.generations():
            if number in {None, generation.number}:
                return generation
        named = "snapshot" if number is None else f"generation {number}"
        raise UsageError(
            f"cohort {self._key.cohort_id} has no {named}",
            hint="`cohortsync snapshot list` lists them",
        )

    async def lay_beside(self, blocks: Iterable[Block]) -> dict[str, Any]:
        """Compare a list with the snapshot that counts; return counts, and some uids of each."""
        base = await self.current()
        return await asyncio.to_thread(self._lay_beside, blocks, base[1] if base else None)

    def _lay_beside(self, blocks: Iterable[Block], base: Snapshot | None) -> dict[str, Any]:
        make_folder(self._folder)
        with TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            staged = stage(blocks, folder / "listed.parquet")
            found = compare(staged, base, folder, self._planning)
            return {
                "in_both": found.unchanged,
                "only_in_the_list": found.adds.planned,
                "only_in_the_snapshot": found.removes.planned,
                "duplicate_rows": found.duplicate,
                "unknown_in_the_snapshot": base.census.unknown if base else 0,
                "some_only_in_the_list": sample(found.adds.path, _SHOWN),
                "some_only_in_the_snapshot": sample(found.removes.path, _SHOWN),
            }

    async def verified(self, number: int | None) -> Snapshot:
        """Return where a generation stands; `LedgerError` if it is not what it was."""
        snapshot = self.snapshot_of(await self.find(number))
        await asyncio.to_thread(verify, snapshot)
        return snapshot

    async def export(self, path: Path, number: int | None, *, members_only: bool = False) -> None:
        """Copy a snapshot to `path`, or the uids alone of those that are in.

        Raises `UsageError` if something is there already.
        """
        snapshot = await self.verified(number)
        await asyncio.to_thread(_copy_out, snapshot.path, path, members_only=members_only)

    async def bring(self, path: Path) -> Generation:
        """Make what `export` wrote, perhaps elsewhere, the snapshot that counts."""
        make_folder(self._folder)
        await asyncio.to_thread(check_snapshot, path, self._folder, self._planning)
        number = await self._last_number() + 1
        return await self._enter(await asyncio.to_thread(self._import, path, number))

    def _import(self, path: Path, number: int) -> Generation:
        target = self._target(number)
        # The runs of another ledger mean nothing in this one.
        rows = (
            rows.set_column(2, SNAPSHOT.field("run"), pa.array([0] * len(rows), pa.int32()))
            for rows in read_batches(path, SNAPSHOT.names)
        )
        write_batches(target, SNAPSHOT, (batch.cast(SNAPSHOT) for batch in rows))
        return self._generation(describe(target), number, None, "import")

    async def _fates(self, mirror: Unfolded) -> list[Fate]:
        return await self._ledger.write(lambda c: mirrors.fates(c, mirror.run))

    async def _last_number(self) -> int:
        last = await self._ledger.write(lambda c: mirrors.current(c, self._key))
        return last.number if last else 0

    async def _fold(
        self, mirror: Unfolded, fates: list[Fate], origin: str, *, is_closed: bool
    ) -> None:
        """Let the snapshot know of what became of a mirror's attempts so far."""
        base = await self.current()
        number = base[0].number if base else 0
        generation = None
        if fates:
            recent = await self.recent()
            generation = await asyncio.to_thread(
                self._make,
                base[1] if base else None,
                number + 1,
                mirror,
                fates,
                [*recent.runs, mirror.run],
                origin,
            )

        def work(connection: sqlite3.Connection) -> None:
            if generation is not None:
                mirrors.enter_generation(connection, self._key, generation)
            reached = generation.number if generation else number or None
            mirrors.note_folded(
                connection, mirror.run, mirror.last_attempt, reached, is_closed=is_closed
            )

        await self._ledger.write(work)

    def _make(  # noqa: PLR0913, PLR0917 - what was, what happened, and what it is called
        self,
        base: Snapshot | None,
        number: int,
        mirror: Unfolded,
        fates: list[Fate],
        recent: list[int],
        origin: str,
    ) -> Generation:
        target = self._target(number)
        made = fold(
            base,
            {leg: self._leg_files(mirror.name, leg) for leg in (Leg.ADD, Leg.REMOVE)},
            _table(fates),
            run=mirror.run,
            recent_runs=recent,
            target=target,
            settings=self._planning,
        )
        made_of_run = self._generation(made, number, mirror.run, origin)
        return replace(made_of_run, last_attempt=mirror.last_attempt)

    def _leg_files(self, run: str, leg: Leg) -> LegFiles:
        """Return the files that hold a leg's uids: one of a plan, many of a push."""
        whole = leg_path(self.plan_folder(run), leg)
        if whole.exists():
            return {0: whole}
        return recorded(self.plan_folder(run), leg)

    def _make_empty(self, number: int) -> Generation:
        target = self._target(number)
        write_batches(target, SNAPSHOT, [])
        return self._generation(describe(target), number, None, "assume-empty")

    def _copy(self, base: Snapshot, number: int, origin: str) -> Generation:
        target = self._target(number)
        with base.path.open("rb") as old, new_file(target) as new:
            shutil.copyfileobj(old, new)
        return self._generation(describe(target), number, None, origin)

    def _target(self, number: int) -> Path:
        make_folder(self._folder)
        return self._folder / f"{number:06}.parquet"

    def _generation(self, made: Snapshot, number: int, run: int | None, origin: str) -> Generation:
        census, now = made.census, self._clock.stamp().utc_ns
        return Generation(
            number,
            run,
            made.path.name,
            made.digest,
            census.members,
            census.unknown,
            census.out,
            origin,
            now,
            last_attempt=0,
        )

    def _sweep(self) -> None:
        """Delete what processes that died were about to make: large files, and of no use."""
        for pattern in ("*/export.parquet", "*/spill-*/*", "*/*.part"):
            for path in plan_folder(self._root, "").glob(pattern):
                path.unlink(missing_ok=True)
        for pattern in ("*.part", "*.changed", "adopted.parquet", "spill-*/*"):
            for path in self._folder.glob(pattern):
                path.unlink(missing_ok=True)

    async def _drop_old(self) -> None:
        """Drop what the retention no longer keeps: the ledger first, then the files."""
        kept = self._settings.keep_generations
        known = await self._ledger.write(lambda c: mirrors.generations(c, self._key))
        old = [generation for generation in known[kept:] if generation.file is not None]
        if not old:
            return
        names = await self._ledger.write(
            lambda c: mirrors.drop_generations(c, self._key, [each.number for each in old])
        )
        for generation in old:
            (self._folder / str(generation.file)).unlink(missing_ok=True)
        for name in names:
            shutil.rmtree(self.plan_folder(name), ignore_errors=True)


def _informed(connection: sqlite3.Connection, generation: Generation) -> Generation:
    """Return a generation that takes all that was sent so far into account."""
    return replace(generation, last_attempt=mirrors.last_attempt(connection))


def _copy_out(snapshot: Path, path: Path, *, members_only: bool) -> None:
    if path.exists():
        raise UsageError(f"{path} exists already")
    if members_only:
        members = uids_in(snapshot, (UidState.IN,))
        write_batches(path, UIDS, (pa.record_batch([uids], schema=UIDS) for uids in members))
        return
    with snapshot.open("rb") as old, new_file(path) as new:
        shutil.copyfileobj(old, new)


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
