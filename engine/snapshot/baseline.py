"""What a plan goes on from: the snapshot that counts, or one in the place of one that was lost."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.ledger.snapshot_records import Unfolded
from engine.ledger.state_folder import make_folder
from engine.snapshot.file_format import SNAPSHOT, describe
from engine.snapshot.records import Snapshot
from engine.snapshot.store import (
    ADOPTED,
    ASSUMED_EMPTY,
    IMPORTED,
    RECONCILED,
    TRUSTED,
    SnapshotStore,
)
from engine.storage.duckdb_session import Interruption
from engine.storage.files import new_file
from engine.storage.paths import TemporaryName, earlier_path
from engine.storage.uid_parquet import write_batches


@dataclass(frozen=True, slots=True)
class Base:
    """What a plan goes on from: the snapshot that counts, or one that is to count once it is sent.

    A snapshot that was lost is replaced only when something is sent: what a plan alone shows, or a
    guard stops, leaves all as it was.
    """

    number: int | None
    """Of the generation; None where there is none, or none yet."""
    snapshot: Snapshot | None
    origin: str | None = None
    """By what command it is to count; None for the one that counts."""
    folds: Sequence[Unfolded] = ()
    """Runs that it takes into account."""
    notes: tuple[str, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Whether it holds nothing although something may have been sent lately."""
        return self.origin == ASSUMED_EMPTY


async def find_base(
    store: SnapshotStore, *, assume_empty: bool = False, trust: int | None = None
) -> Base:
    """Return what a plan goes on from.

    With a flag it is a file that nobody has named yet: see `install`. Raises as
    `SnapshotStore.current`, and `UsageError` for a generation that there is not.
    """
    if assume_empty:
        return await _empty_base(store)
    if trust is not None:
        return await _trusted_base(store, trust)
    await store.catch_up()
    current = await store.current()
    return Base(current[0].number, current[1]) if current else Base(None, None)


async def install(store: SnapshotStore, base: Base) -> int | None:
    """Let a base count from now on, if it does not yet; return its number."""
    snapshot = base.snapshot
    if base.origin is None or snapshot is None:
        return base.number

    def put(target: Path, _: Interruption) -> Snapshot:
        _copy(snapshot, target)
        return describe(target)

    return (await store.make(base.origin, put, folds=base.folds)).number


async def _empty_base(store: SnapshotStore) -> Base:
    make_folder(store.folder)
    candidate = store.session_folder / TemporaryName.CANDIDATE
    await asyncio.to_thread(write_batches, candidate, SNAPSHOT, [])
    unfolded = await store.unfolded()
    snapshot = await asyncio.to_thread(describe, candidate)
    return Base(None, snapshot, ASSUMED_EMPTY, unfolded)


async def _trusted_base(store: SnapshotStore, number: int) -> Base:
    """Return an older snapshot in which every uid that was touched since is unknown."""
    trusted = await store.find(number)
    old = await store.verified(number)
    since = await store.sent_since(trusted.last_attempt)
    doubt = await doubting(store, [(run, trusted.last_attempt) for run in since])
    make_folder(store.folder)
    candidate = store.session_folder / TemporaryName.CANDIDATE

    def doubted(interruption: Interruption) -> Snapshot:
        _copy(old, candidate)
        return doubt(describe(candidate), interruption)

    snapshot = await store.compute(doubted)
    return Base(None, snapshot, TRUSTED, since, await _forgotten(store, number))


async def doubting(
    store: SnapshotStore, runs: Sequence[tuple[Unfolded, int]]
) -> Callable[[Snapshot, Interruption], Snapshot]:
    """Return what lets each uid that `runs` touched be unknown in a snapshot, in its place.

    That has to be in a temporary folder, where earlier versions of it are put as well.
    With each run comes the attempt behind which what it sent counts.
    """
    doubts = [
        (run, [replace(each, is_accepted=False) for each in await store.range_outcomes(run, after)])
        for run, after in runs
    ]
    recent = await store.recent()

    def doubt(snapshot: Snapshot, interruption: Interruption) -> Snapshot:
        """Fold one run after the other."""
        path = snapshot.path
        earlier = earlier_path(path)
        for run, outcomes in doubts:
            path.replace(earlier)
            snapshot = replace(snapshot, path=earlier)
            snapshot = store.folded(snapshot, run, outcomes, recent.runs, path, interruption)
        earlier.unlink(missing_ok=True)
        return snapshot

    return doubt


async def _forgotten(store: SnapshotStore, number: int) -> tuple[str, ...]:
    """Say what was brought from elsewhere since a generation, and is not in it."""
    brought = (ADOPTED, IMPORTED, RECONCILED)
    return tuple(
        f"generation {each.number}, by {each.origin}, is not in generation {number}: "
        f"`cohortsync snapshot {each.origin}` its list again"
        for each in await store.generations()
        if each.number > number and each.origin in brought
    )


def _copy(snapshot: Snapshot, target: Path) -> None:
    with new_file(target) as copy, snapshot.path.open("rb") as file:
        shutil.copyfileobj(file, copy)
