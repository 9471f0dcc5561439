"""One cohort's snapshots: which one counts, and how it comes to know what a mirror has sent.

A snapshot moves in one step: its file is on the disk, fsynced, before one transaction of the ledger
names it. A process that dies in between leaves a file that nobody names, and the next one folds
the same attempts again.
"""

import asyncio
import hashlib
import shutil
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from engine.clock import Clock
from engine.errors import LedgerError, UsageError
from engine.ledger import mirrors
from engine.ledger.ledger import Ledger
from engine.ledger.mirrors import CohortKey, Fate, Generation, Unfolded
from engine.ledger.place import make_folder
from engine.plan.files import new_file
from engine.plan.fold import adopt, fold
from engine.plan.records import Census, Snapshot, UidState
from engine.plan.settings import MirrorSettings, PlanningSettings
from engine.plan.snapshot_file import SNAPSHOT, check_snapshot, describe, verify
from engine.plan.staging import stage, write_batches
from engine.source.block import Block

_LONGEST_NAME = 100
ADDS, REMOVES = "adds.parquet", "removes.parquet"


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
        self._plans = folder / "plans"
        self._folder = folder / "snapshots" / quote(key.partner, safe="") / _name(key.cohort_id)
        self._ledger = ledger
        self._key = key
        self._settings = settings
        self._planning = planning
        self._clock = clock

    def plan_folder(self, run: str) -> Path:
        """Return the folder that holds the uids of a plan, by the name of its run."""
        return self._plans / run

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

    async def recent(self, but: int | None = None) -> tuple[list[int], float]:
        """Return the runs whose requests may not have settled, and the seconds until they have.

        Run `but` is left out: a run does not wait for itself.
        """
        now = self._clock.stamp()
        touches = await self._ledger.write(lambda c: mirrors.touches(c, self._key))
        settle = self._settings.settle_seconds
        left = {touch.run: settle - touch.sent.age_at(now) for touch in touches}
        recent = [run for run, seconds in left.items() if seconds > 0 and run != but]
        return recent, max((left[run] for run in recent), default=0.0)

    async def catch_up(self, stays_open: int | None = None) -> None:
        """Let the snapshot know of all that mirrors have sent; each but `stays_open` is closed."""
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
            mirrors.enter_generation(connection, self._key, made)

        await self._ledger.write(work)

    async def trust(self, number: int) -> None:
        """Go on from an older snapshot; every uid that was touched since is unknown."""
        trusted = await self.find(number)
        base = self.snapshot_of(trusted)
        await asyncio.to_thread(verify, base)
        since = await self._ledger.write(
            lambda c: mirrors.sent_since(c, self._key, trusted.made_utc_ns)
        )
        for mirror in since:
            if not self.plan_folder(mirror.name).exists():
                raise LedgerError(
                    f"what run {mirror.name} has sent since generation {number} is not kept",
                    hint="pass --assume-empty, or trust a later generation",
                )
        again = await asyncio.to_thread(self._copy, base, await self._last_number() + 1, "trust")
        await self._ledger.write(lambda c: mirrors.enter_generation(c, self._key, again))
        for mirror in since:
            doubted = [replace(fate, is_accepted=False) for fate in await self._fates(mirror)]
            await self._fold(mirror, doubted, "trust", is_closed=True)

    async def adopt(self, blocks: Iterable[Block], origin: str) -> Generation:
        """Let the uids of `blocks` be known: the cohort's members, or perhaps members.

        With the origin `reconcile` they are all of the members, whatever was known before; with
        `adopt` each that is not known yet is unknown from now on.
        """
        base = await self.current()
        number = await self._last_number() + 1
        is_all = origin == "reconcile"
        generation = await asyncio.to_thread(
            self._adopt,
            None if is_all or base is None else base[1],
            blocks,
            UidState.IN if is_all else UidState.MAY_BE_IN,
            number,
            origin,
        )
        await self._ledger.write(lambda c: mirrors.enter_generation(c, self._key, generation))
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
            stage(blocks, staged)
            made = adopt(base, staged, state, target=target, settings=self._planning)
        finally:
            staged.unlink(missing_ok=True)
        return self._generation(made, number, None, origin)

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

    async def export(self, path: Path, number: int | None) -> None:
        """Copy a snapshot to `path`; raises `UsageError` if something is there already."""
        snapshot = self.snapshot_of(await self.find(number))
        await asyncio.to_thread(verify, snapshot)
        await asyncio.to_thread(_copy_out, snapshot.path, path)

    async def bring(self, path: Path) -> Generation:
        """Make a copy of a file that `export` wrote the snapshot that counts."""
        await asyncio.to_thread(check_snapshot, path, self._planning)
        number = await self._last_number() + 1
        empty = Snapshot(path, Census(), b"")
        made = await asyncio.to_thread(self._copy, empty, number, "import")
        await self._ledger.write(lambda c: mirrors.enter_generation(c, self._key, made))
        return made

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
            recent, _ = await self.recent()
            generation = await asyncio.to_thread(
                self._make,
                base[1] if base else None,
                number + 1,
                mirror,
                fates,
                [*recent, mirror.run],
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
        plan = self.plan_folder(mirror.name)
        made = fold(
            base,
            plan / ADDS,
            plan / REMOVES,
            _table(fates),
            run=mirror.run,
            recent_runs=recent,
            target=target,
            settings=self._planning,
        )
        return self._generation(made, number, mirror.run, origin)

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
        )

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


def _copy_out(snapshot: Path, path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists already")
    try:
        with snapshot.open("rb") as old, new_file(path) as new:
            shutil.copyfileobj(old, new)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error


def _name(cohort_id: str) -> str:
    # A cohort's id may be longer than a folder's name may be, and may be a dot.
    name = quote(cohort_id, safe="").replace(".", "%2E")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(cohort_id.encode()).hexdigest()[:16]}"


def _table(fates: list[Fate]) -> pa.Table:
    return pa.table(
        {
            "action": pa.array([fate.action.value for fate in fates], pa.string()),
            "first_uid": pa.array([fate.first_uid for fate in fates], pa.int64()),
            "uid_count": pa.array([fate.uid_count for fate in fates], pa.int64()),
            "is_accepted": pa.array([fate.is_accepted for fate in fates], pa.bool_()),
        }
    )
