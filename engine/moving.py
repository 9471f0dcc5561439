"""What is known of a cohort, from and to elsewhere."""

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from engine.errors import IncompleteError, UsageError
from engine.ledger.generations import Generation
from engine.ledger.place import make_folder
from engine.plan.compare import compare
from engine.plan.files import new_file
from engine.plan.fold import adopt as adopt_staged
from engine.plan.leg import sample
from engine.plan.records import Snapshot, UidState
from engine.plan.snapshot_file import SNAPSHOT, check_snapshot, describe, uids_in
from engine.plan.staging import UIDS, read_batches, stage, write_batches
from engine.snapshots import ADOPTED, IMPORTED, SnapshotStore
from engine.source.block import Block

_SHOWN = 10
"""Uids of each kind that a comparison shows."""


async def adopt(store: SnapshotStore, blocks: Iterable[Block]) -> Generation:
    """Let each uid of `blocks` that is not known yet be unknown: perhaps it is a member."""
    base = await store.current()
    return await _take_over(store, base and base[1], blocks, UidState.MAY_BE_IN, ADOPTED)


async def reconcile(store: SnapshotStore, blocks: Iterable[Block]) -> Generation:
    """Let the uids of `blocks` be all members, whatever was known before.

    Raises `IncompleteError` while the far side may not have applied what was sent: no list can tell
    of that.
    """
    recent = await store.recent()
    if recent.seconds:
        raise IncompleteError(
            f"what was sent to cohort {store.key.cohort_id} may not have been applied yet",
            hint=f"reconcile it with a list that is taken in {recent.seconds:,.0f} s or later",
        )
    return await _take_over(store, None, blocks, UidState.IN, "reconcile")


async def _take_over(
    store: SnapshotStore,
    base: Snapshot | None,
    blocks: Iterable[Block],
    state: UidState,
    origin: str,
) -> Generation:
    def maker(target: Path) -> Snapshot:
        staged = target.with_name("adopted.parquet")
        try:
            uids = stage(blocks, staged).uids
            return adopt_staged(base, staged, uids, state, target=target, settings=store.planning)
        finally:
            staged.unlink(missing_ok=True)

    return await store.make(origin, maker)


async def bring(store: SnapshotStore, path: Path) -> Generation:
    """Make what `export` wrote, perhaps elsewhere, the snapshot that counts."""

    def maker(target: Path) -> Snapshot:
        check_snapshot(path, target.parent, store.planning)
        # The runs of another ledger mean nothing in this one.
        rows = (
            rows.set_column(2, SNAPSHOT.field("run"), pa.array([0] * len(rows), pa.int32()))
            for rows in read_batches(path, SNAPSHOT.names)
        )
        write_batches(target, SNAPSHOT, (batch.cast(SNAPSHOT) for batch in rows))
        return describe(target)

    return await store.make(IMPORTED, maker)


async def export(
    store: SnapshotStore, path: Path, number: int | None, *, members_only: bool = False
) -> None:
    """Copy a snapshot to `path`, or the uids alone of those that are in.

    Raises `UsageError` if something is there already.
    """
    snapshot = await store.verified(number)
    await asyncio.to_thread(_copy_out, snapshot.path, path, members_only=members_only)


def _copy_out(snapshot: Path, path: Path, *, members_only: bool) -> None:
    if path.exists():
        raise UsageError(f"{path} exists already")
    if members_only:
        members = uids_in(snapshot, (UidState.IN,))
        write_batches(path, UIDS, (pa.record_batch([uids], schema=UIDS) for uids in members))
        return
    with snapshot.open("rb") as old, new_file(path) as new:
        shutil.copyfileobj(old, new)


async def lay_beside(store: SnapshotStore, blocks: Iterable[Block]) -> dict[str, Any]:
    """Compare a list with the snapshot that counts; return counts, and some uids of each."""
    base = await store.current()
    return await asyncio.to_thread(_lay_beside, store, blocks, base and base[1])


def _lay_beside(
    store: SnapshotStore, blocks: Iterable[Block], base: Snapshot | None
) -> dict[str, Any]:
    make_folder(store.folder)
    with TemporaryDirectory(dir=store.folder) as name:
        folder = Path(name)
        staged = stage(blocks, folder / "listed.parquet")
        found = compare(staged, base, folder, store.planning)
        return {
            "in_both": found.unchanged,
            "only_in_the_list": found.adds.planned,
            "only_in_the_snapshot": found.removes.planned,
            "duplicate_rows": found.duplicate,
            "unknown_in_the_snapshot": base.census.unknown if base else 0,
            "some_only_in_the_list": sample(found.adds.path, _SHOWN),
            "some_only_in_the_snapshot": sample(found.removes.path, _SHOWN),
        }
