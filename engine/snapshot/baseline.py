"""The snapshot that a plan is based on: the current one, or one in the place of a lost one."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.cancellation import run_in_thread
from engine.errors import UsageError
from engine.ledger.snapshot_records import Generation, Unfolded
from engine.ledger.state_folder import make_folder
from engine.snapshot.fold import RunChanges, fold
from engine.snapshot.partitions import is_sorted, sort_rows
from engine.snapshot.records import Snapshot
from engine.snapshot.sorted_file import write_sorted
from engine.snapshot.store import (
    ADOPTED,
    ASSUMED_EMPTY,
    IMPORTED,
    RECONCILED,
    RESTORED,
    SORTED,
    TRUSTED,
    SnapshotStore,
)
from engine.storage.computation import Interruption
from engine.storage.files import new_file
from engine.storage.paths import TemporaryName, earlier_path


@dataclass(frozen=True, slots=True)
class Base:
    """The snapshot that a plan is based on: the current one, or one that becomes current once sent.

    A lost snapshot is replaced only when something is sent: a plan that is only shown, or that a
    guard blocks, changes nothing.
    """

    number: int | None
    """Of the generation; None if there is none, or none yet."""
    snapshot: Snapshot | None
    origin: str | None = None
    """The command by which it is to become current; None for the current one."""
    folds: Sequence[Unfolded] = ()
    """Runs that it includes."""
    notes: tuple[str, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Whether it is empty although something may have been sent recently."""
        return self.origin == ASSUMED_EMPTY


async def find_base(
    store: SnapshotStore, *, assume_empty: bool = False, trust: int | None = None
) -> Base:
    """Return the snapshot that a plan is based on.

    With a flag it is a file that the ledger does not name yet: see `install`. Raises as
    `SnapshotStore.current`, and `UsageError` for a generation that does not exist.
    """
    if assume_empty:
        return await _empty_base(store)
    if trust is not None:
        return await _trusted_base(store, trust)
    await store.catch_up()
    current = await store.current()
    if current is None:
        return Base(None, None)
    generation, snapshot = current
    if not await run_in_thread(lambda: store.backend.needs_sorting(snapshot)):
        return Base(generation.number, snapshot)
    return await _sorted_base(store, generation, snapshot)


async def install(store: SnapshotStore, base: Base) -> int | None:
    """Make a base current, unless it is already; return its number."""
    snapshot = base.snapshot
    if base.origin is None or snapshot is None:
        return base.number

    def put(target: Path, _: Interruption) -> Snapshot:
        _copy(snapshot, target)
        return replace(snapshot, path=target)

    return (await store.make(base.origin, store.of_rows(put), folds=base.folds)).number


async def _sorted_base(store: SnapshotStore, old: Generation, snapshot: Snapshot) -> Base:
    """Make a sorted snapshot of one from an older version, once, so that plans read it faster."""

    def put(target: Path, interruption: Interruption) -> Snapshot:
        return sort_rows(snapshot, target, store.compute_options(interruption))

    made = await store.make(
        SORTED,
        store.of_rows(put),
        run_number=old.run,
        last_attempt=old.last_attempt,
        lifted=old.lifted,
    )
    note = (
        f"generation {old.number} of the snapshot is from an older version: it was sorted, "
        f"and kept as generation {made.number}"
    )
    return Base(made.number, await store.verified(made.number), notes=(note,))


async def _empty_base(store: SnapshotStore) -> Base:
    make_folder(store.folder)
    candidate = store.session_folder / TemporaryName.CANDIDATE

    def empty(_: Interruption) -> Snapshot:
        return write_sorted(candidate, [])

    unfolded = await store.unfolded()
    snapshot = await store.compute(empty)
    return Base(None, snapshot, ASSUMED_EMPTY, unfolded)


async def _trusted_base(store: SnapshotStore, number: int) -> Base:
    """Return an older snapshot in which every uid that was changed since is unknown.

    Raises `UsageError` if the cohort was restored from a backup since: the ledger does not know all
    that was changed.
    """
    trusted = await store.find(number)
    for each in await store.generations():
        if each.origin == RESTORED and each.number > number:
            raise UsageError(
                f"generation {number} was made before generation {each.number} was restored from a "
                "backup: what was sent after the backup is unknown",
                hint="mirror without --trust: each uid of the restored snapshot is sent again",
            )
    old = await store.verified(number)
    since = await store.sent_since(trusted.last_attempt)
    doubt = await doubting(store, [(run, trusted.last_attempt) for run in since])
    make_folder(store.folder)
    candidate = store.session_folder / TemporaryName.CANDIDATE

    def doubted(interruption: Interruption) -> Snapshot:
        rows = store.as_file(old, interruption)
        if is_sorted(rows):
            _copy(rows, candidate)
            return doubt(replace(rows, path=candidate), interruption)
        return doubt(sort_rows(rows, candidate, store.compute_options(interruption)), interruption)

    snapshot = await store.compute(doubted)
    return Base(None, snapshot, TRUSTED, since, await _forgotten(store, number))


async def doubting(
    store: SnapshotStore, runs: Sequence[tuple[Unfolded, int]]
) -> Callable[[Snapshot, Interruption], Snapshot]:
    """Return a function that rewrites a snapshot so that each uid that `runs` changed is unknown.

    The snapshot must be in a temporary folder, which also holds its earlier versions. Each run has
    the number of an attempt; only later attempts of the run count.
    """
    recent = await store.recent()
    doubts: list[RunChanges] = []
    for run, after in runs:
        outcomes = await store.range_outcomes(run, after)
        doubted = [replace(each, is_accepted=False) for each in outcomes]
        doubts.append(store.changes(run, doubted, recent))

    def doubt(snapshot: Snapshot, interruption: Interruption) -> Snapshot:
        """Fold one run after the other."""
        path = snapshot.path
        earlier = earlier_path(path)
        for changes in doubts:
            path.replace(earlier)
            snapshot = replace(snapshot, path=earlier)
            snapshot = fold(snapshot, changes, path, store.compute_options(interruption))
        earlier.unlink(missing_ok=True)
        return snapshot

    return doubt


async def _forgotten(store: SnapshotStore, number: int) -> tuple[str, ...]:
    """Describe what was imported since a generation, and is not in it."""
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
