"""What is known of a cohort, from and to elsewhere."""

import asyncio
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import GuardError, IncompleteError, SourceError, UsageError
from engine.ledger.generations import Generation
from engine.ledger.place import make_folder
from engine.plan.compare import compare
from engine.plan.fold import adopt as adopt_staged
from engine.plan.guards import Bound, limit_of
from engine.plan.leg import sample
from engine.plan.planning import passing_folder
from engine.plan.records import Snapshot, Staged, UidState
from engine.plan.snapshot_file import SNAPSHOT, check_snapshot, describe, uids_in
from engine.plan.staging import UIDS, read_batches, stage, write_batches
from engine.sending import StopSwitch, read_or_stop
from engine.snapshots import ADOPTED, IMPORTED, RECONCILED, SnapshotStore
from engine.source.block import Block

_SHOWN = 10
"""Uids of each kind that a comparison shows."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A snapshot made of a list, and what was read of that."""

    generation: Generation
    rows: Staged


async def adopt(store: SnapshotStore, blocks: Iterable[Block], switch: StopSwitch) -> Brought:
    """Let each uid of `blocks` that is not known yet be unknown: perhaps it is a member.

    Raises `SourceError` for a list that holds none, `IncompleteError` once a stop comes.
    """
    base = await store.current()
    with _list_of(store) as path:
        staged = await _read(blocks, path, switch)
        made = await _take_over(store, base and base[1], staged, UidState.MAY_BE_IN, ADOPTED)
    return Brought(made, staged)


async def reconcile(
    store: SnapshotStore, blocks: Iterable[Block], switch: StopSwitch, max_invalid: Bound
) -> Brought:
    """Let the uids of `blocks` be all members, whatever was known before.

    Raises as `adopt`, `GuardError` for a list with too many invalid rows, and `IncompleteError`
    while the far side may not have applied what was sent: no list can tell of that.
    """
    recent = await store.recent()
    if recent.seconds:
        raise IncompleteError(
            f"what was sent to cohort {store.key.cohort_id} may not have been applied yet",
            hint=f"reconcile it with a list that is taken in {recent.seconds:,.0f} s or later",
        )
    with _list_of(store) as path:
        staged = await _read(blocks, path, switch)
        if staged.invalid > (limit := limit_of(max_invalid, staged.rows_read)):
            raise GuardError(
                f"{staged.invalid:,} invalid rows of {staged.rows_read:,}; at most {int(limit):,} "
                "are allowed (`guards.max_invalid`)",
                hint="look at the list: who is missing from it counts as not in",
            )
        made = await _take_over(store, None, staged, UidState.IN, RECONCILED)
    return Brought(made, staged)


@contextmanager
def _list_of(store: SnapshotStore) -> Iterator[Path]:
    """Give room for a list while it is worked on."""
    make_folder(store.folder)
    folder = passing_folder(store.folder, "list")
    try:
        yield folder / "listed.parquet"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _read(blocks: Iterable[Block], path: Path, switch: StopSwitch) -> Staged:
    """Read a list to its end; raises `SourceError` if it holds no uid."""
    staged = await read_or_stop(lambda: stage(blocks, path), switch)
    if not staged.uids:
        raise SourceError("the list holds no uid", hint="look at the list")
    return staged


async def _take_over(
    store: SnapshotStore, base: Snapshot | None, staged: Staged, state: UidState, origin: str
) -> Generation:
    def maker(target: Path) -> Snapshot:
        return adopt_staged(
            base, staged.path, staged.uids, state, target=target, settings=store.planning
        )

    return await store.make(origin, maker)


async def bring(store: SnapshotStore, path: Path) -> Generation:
    """Make what `export` wrote, perhaps elsewhere, the snapshot that counts.

    Raises `UsageError` for what it did not write, or for another cohort, and `IncompleteError`
    while the far side may not have applied what was sent from here.
    """
    recent = await store.recent()
    if any(recent.runs):
        raise IncompleteError(
            f"what was sent to cohort {store.key.cohort_id} may not have been applied yet, and the "
            "file does not know of it",
            hint=f"import it in {recent.seconds:,.0f} s or later",
        )

    def maker(target: Path) -> Snapshot:
        check_snapshot(path, target.parent, store.planning)
        _refuse_other_cohort(path, store)
        # The runs of another ledger mean nothing in this one.
        rows = (
            rows.set_column(2, SNAPSHOT.field("run"), pa.array([0] * len(rows), pa.int32()))
            for rows in read_batches(path, SNAPSHOT.names)
        )
        write_batches(target, SNAPSHOT, (batch.cast(SNAPSHOT) for batch in rows))
        return describe(target)

    return await store.make(IMPORTED, maker)


_COHORT = b"cohortsync.cohort"


def _refuse_other_cohort(path: Path, store: SnapshotStore) -> None:
    named = (pq.read_schema(path).metadata or {}).get(_COHORT)
    if named is not None and named != store.key.cohort_id.encode():
        raise UsageError(
            f"{path} is a snapshot of cohort {named.decode(errors='replace')}",
            hint="pass that as --cohort-id",
        )


async def export(
    store: SnapshotStore, path: Path, number: int | None, *, members_only: bool = False
) -> None:
    """Copy a snapshot to `path`, or the uids alone of those that are in.

    Raises `UsageError` if something is there already.
    """
    snapshot = await store.verified(number)
    schema = SNAPSHOT.with_metadata({_COHORT: store.key.cohort_id.encode()})

    def copy_out() -> None:
        try:
            exists = path.exists()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        if exists:
            raise UsageError(f"{path} exists already", hint="name a new file")
        if members_only:
            members = uids_in(snapshot.path, (UidState.IN,))
            write_batches(path, UIDS, (pa.record_batch([uids], schema=UIDS) for uids in members))
        else:
            rows = read_batches(snapshot.path, SNAPSHOT.names)
            write_batches(path, schema, (batch.cast(schema) for batch in rows), "zstd")

    await asyncio.to_thread(copy_out)


async def lay_beside(
    store: SnapshotStore, blocks: Iterable[Block], switch: StopSwitch
) -> dict[str, Any]:
    """Compare a list with the snapshot that counts; return counts, and some uids of each.

    Raises `UsageError` where there is no snapshot, and as `adopt`.
    """
    base = await store.verified(None)
    with _list_of(store) as path:
        staged = await _read(blocks, path, switch)
        found = await asyncio.to_thread(compare, staged, base, path.parent, store.planning)
        return {
            "in_both": found.unchanged,
            "only_in_the_list": found.adds.planned,
            "only_in_the_snapshot": found.removes.planned,
            "duplicate_rows": found.duplicate,
            "blank_rows": staged.blank,
            "invalid_rows": staged.invalid,
            "unknown_in_the_snapshot": base.census.unknown,
            "some_only_in_the_list": sample(found.adds.path, _SHOWN),
            "some_only_in_the_snapshot": sample(found.removes.path, _SHOWN),
        }
