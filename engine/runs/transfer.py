"""Snapshots of a cohort: made from a list or a file, exported, and compared with a list."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.delivery.stop import StopSwitch
from engine.errors import GuardError, IncompleteError, LedgerError, SourceError, UsageError
from engine.ledger.snapshot_records import Generation
from engine.ledger.state_folder import make_folder
from engine.model.cohort import CohortKey
from engine.planning.allowances import Allowance, attributed, flags_to_lift
from engine.planning.comparison import compare
from engine.planning.guards import Facts, judge
from engine.planning.profile import Inspection
from engine.planning.settings import GuardSettings
from engine.planning.staging import EXPORT, stage
from engine.runs.interruptible import WritePermission, compute_or_stop, read_or_stop
from engine.snapshot.baseline import doubting
from engine.snapshot.file_format import take_over, uids_in
from engine.snapshot.fold import adopt as adopt_staged
from engine.snapshot.operation_uids import sample
from engine.snapshot.records import Census, Comparison, Snapshot, Staged, UidState
from engine.snapshot.sorted_file import SNAPSHOT
from engine.snapshot.store import ADOPTED, IMPORTED, RECONCILED, SnapshotStore
from engine.source.block import Block
from engine.source.source_file import SourceFile
from engine.storage.computation import Interruption
from engine.storage.files import rename_durably, work_folder
from engine.storage.paths import TemporaryName, TemporaryPurpose, fallback_folder, is_record
from engine.storage.uid_parquet import UIDS, read_batches, write_batches
from engine.storage.uid_spool import Spool, open_spool

_SHOWN = 10
"""The number of uids of each kind that a comparison shows."""


@dataclass(frozen=True, slots=True)
class StagedSnapshot:
    """A snapshot made from a list, and what was read of the list."""

    generation: Generation
    rows: Staged


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a list is kept while it is used."""

    folder: Path
    """A temporary folder."""
    spool: Spool


async def adopt(
    store: SnapshotStore, blocks: Iterable[Block], switch: StopSwitch
) -> StagedSnapshot:
    """Add each uid of `blocks` that is not known yet as a possible member.

    Raises `SourceError` for a list without a uid, and `IncompleteError` if a stop comes.
    """
    base = await store.current()
    with _list_of(store) as place:
        staged = await _read(blocks, place.spool, switch)
        made = await _take_over(store, base and base[1], place, UidState.MAY_BE_IN, ADOPTED)
    return StagedSnapshot(made, staged)


async def reconcile(  # noqa: PLR0913, PLR0917 - the list, its guards, and why they are lifted
    store: SnapshotStore,
    blocks: Iterable[Block],
    switch: StopSwitch,
    guards: GuardSettings,
    allowances: Sequence[Allowance] = (),
    files: Sequence[SourceFile] = (),
    *,
    reason: str | None = None,
) -> StagedSnapshot:
    """Replace the snapshot: exactly the uids of `blocks`, read from `files`, are members.

    The snapshot records why guards were lifted, and by whom.

    Raises as `adopt` does, `GuardError` for a list that the guards would refuse as an export, and
    `IncompleteError` while the API may not have applied what was sent: a list may lack that.
    """
    recent = await store.recent()
    if recent.seconds:
        raise IncompleteError(
            f"what was sent to cohort {store.key.cohort_id} may not have been applied yet",
            hint=f"reconcile it with a list that is taken in {recent.seconds:,.0f} s or later",
        )
    with _list_of(store) as place:
        inspection = Inspection(guards.uid_pattern)
        observe = [lambda block: inspection.look(block.uids)]
        staged = await _read(blocks, place.spool, switch, observe)
        base = await _known(store)
        found = await _compare(store, staged, base, place.folder, switch)
        facts = Facts(
            members=base.census.members + base.census.unknown if base else 0,
            adds=0,
            adds_left=0,
            removes=found.removes.planned,
            desired=staged.uids - found.duplicate,
            rows_read=staged.rows_read,
            invalid=staged.invalid,
            duplicates=found.duplicate,
            misfits=inspection.misfits,
            profile=inspection.profile,
            last_profile=None,
            files=files,
            exported_utc_ns=None,
            last_exported_utc_ns=None,
            now_utc_ns=store.now_utc_ns,
            name="",
            last_name=None,
        )
        blocking = [each for each in judge(facts, guards, allowances) if each.blocks]
        if blocking:
            overrides = [each.override or "" for each in blocking]
            flags = flags_to_lift(overrides, allowances, reason)
            hints = [each.hint for each in blocking if each.hint]
            raise GuardError(
                "; ".join(f"{each.guard}: {each.sentence}" for each in blocking),
                hint="; ".join(
                    [*hints, "look at the list: who is missing from it counts as not in"]
                )
                + f"; if it is right: {flags}",
            )
        lifted = attributed(allowances, reason)
        made = await _take_over(store, None, place, UidState.IN, RECONCILED, lifted)
    return StagedSnapshot(made, staged)


async def _known(store: SnapshotStore) -> Snapshot | None:
    """Return the current snapshot; None if it is lost: a list of the members replaces it."""
    try:
        current = await store.current()
    except LedgerError:
        return None
    return current and current[1]


@contextmanager
def _list_of(store: SnapshotStore) -> Iterator[_Place]:
    """Yield a place for a list."""
    make_folder(store.folder)
    with (
        store.work_folder(TemporaryPurpose.LIST) as folder,
        open_spool(folder, EXPORT, store.planning) as spool,
    ):
        yield _Place(folder, spool)


@contextmanager
def _list_to_look_at(store: SnapshotStore) -> Iterator[_Place]:
    """Yield a place for a list that is only read; outside the state folder if that is read-only."""
    with ExitStack() as made:
        try:
            place = made.enter_context(_list_of(store))
        except LedgerError:
            elsewhere = fallback_folder(store.planning.spill_dir)
            folder = made.enter_context(work_folder(elsewhere, TemporaryPurpose.LIST))
            place = _Place(folder, made.enter_context(open_spool(folder, EXPORT, store.planning)))
        yield place


async def _read(
    blocks: Iterable[Block],
    spool: Spool,
    switch: StopSwitch,
    observe: Sequence[Callable[[Block], None]] = (),
) -> Staged:
    """Read a list to its end; raises `SourceError` if it holds no uid."""
    permission = WritePermission()

    def read_list() -> Staged:
        with permission.held():
            return stage(permission.released_between(blocks), spool, observe=observe)

    staged = await read_or_stop(read_list, switch, permission)
    if not staged.uids:
        raise SourceError("the list holds no uid", hint="look at the list")
    return staged


async def _compare(
    store: SnapshotStore, staged: Staged, base: Snapshot | None, folder: Path, switch: StopSwitch
) -> Comparison:
    """Compare a list with a snapshot; the differences are written into `folder`."""

    def work(interruption: Interruption) -> Comparison:
        known = base and store.as_file(base, interruption)
        return compare(staged, known, folder, store.compute_options(interruption))

    return await compute_or_stop(work, switch)


async def _take_over(  # noqa: PLR0913, PLR0917 - the known uids, and their new state
    store: SnapshotStore,
    base: Snapshot | None,
    place: _Place,
    state: UidState,
    origin: str,
    lifted: Sequence[Mapping[str, Any]] = (),
) -> Generation:
    def maker(target: Path, interruption: Interruption) -> Snapshot:
        options = store.compute_options(interruption)
        known = base and store.as_file(base, interruption)
        return adopt_staged(known, place.spool, state, target, options)

    return await store.make(origin, store.of_rows(maker), lifted=lifted)


async def import_snapshot(
    store: SnapshotStore, path: Path, target: str, *, from_elsewhere: bool = False
) -> Generation:
    """Replace the current snapshot by a file that `export` wrote, perhaps on another machine.

    It may also be the record of a generation in the database of `plan.connection`.

    `target` names endpoint, workspace and partner.
    Raises `UsageError` for a file that `export` did not write, for another cohort and, without
    `from_elsewhere`, for another target. Raises `IncompleteError` while the API may not have
    applied what was sent from this state folder.
    """
    recent = await store.recent()
    if any(recent.runs):
        raise IncompleteError(
            f"what was sent to cohort {store.key.cohort_id} may not have been applied yet, and the "
            "file does not know of it",
            hint=f"import it in {recent.seconds:,.0f} s or later",
        )

    # It is unknown whether the file includes what was sent from here and is not folded yet.
    unfolded = await store.unfolded()
    doubt = await doubting(store, [(run, run.folded_attempt) for run in unfolded])

    def check(said: Mapping[bytes, bytes]) -> None:
        _refuse_other(path, said, store.key, None if from_elsewhere else target)

    def maker(made: Path, interruption: Interruption) -> Snapshot:
        with work_folder(made.parent, TemporaryPurpose.IMPORT) as folder:
            copy = folder / TemporaryName.IMPORT
            options = store.compute_options(interruption)
            rows = path
            if is_record(path.name):
                rows = store.as_file(Snapshot(path, Census(), b""), interruption).path
            snapshot = doubt(take_over(rows, copy, options, check), interruption)
            rename_durably(copy, made)
        return replace(snapshot, path=made)

    return await store.make(IMPORTED, store.of_rows(maker), folds=unfolded)


_COHORT = b"cohortsync.cohort"
_TARGET = b"cohortsync.target"


def _refuse_other(
    path: Path, said: Mapping[bytes, bytes], key: CohortKey, target: str | None
) -> None:
    """Raise `UsageError` for a file of another cohort or, if `target` is given, another target."""
    named = said.get(_COHORT, b"").decode(errors="replace")
    if named and named != key.cohort_id:
        raise UsageError(f"{path} is a snapshot of cohort {named}", hint="pass that as --cohort-id")
    where = said.get(_TARGET, b"").decode(errors="replace")
    if target is not None and where and where != target:
        raise UsageError(
            f"{path} is for {where}, not for {target}",
            hint="who is in a cohort there need not be in it here; if it is the same cohort by "
            "another address: --from-elsewhere",
        )


async def export(
    store: SnapshotStore,
    path: Path,
    number: int | None,
    target: str,
    *,
    members_only: bool = False,
) -> None:
    """Copy a snapshot of `target` to `path`, or only the uids of its members.

    Raises `UsageError` if `path` exists.
    """
    snapshot = await store.verified(number)
    named = {_COHORT: store.key.cohort_id.encode(), _TARGET: target.encode()}
    schema = SNAPSHOT.with_metadata(named)

    def copy_out(interruption: Interruption) -> None:
        if os.path.lexists(path):  # An early check: the file may still be created later.
            raise UsageError(f"{path} exists already", hint="name a new file")
        kept = store.as_file(snapshot, interruption)
        if members_only:
            members = uids_in(kept.path, (UidState.IN,))
            uids = (pa.record_batch([uids], schema=UIDS) for uids in members)
            write_batches(path, UIDS, interruption.until_tripped(uids), replaces=False)
        else:
            rows = read_batches(kept.path, SNAPSHOT.names)
            copied = interruption.until_tripped(batch.cast(schema) for batch in rows)
            write_batches(path, schema, copied, "zstd", replaces=False)

    await store.compute(copy_out)


async def compare_with(
    store: SnapshotStore, blocks: Iterable[Block], switch: StopSwitch
) -> dict[str, Any]:
    """Compare a list with the current snapshot; return counts, and sample uids for each.

    Raises `UsageError` if there is no snapshot, and raises as `adopt` does.
    """
    base = await store.verified(None)
    with _list_to_look_at(store) as place:
        staged = await _read(blocks, place.spool, switch)
        found = await _compare(store, staged, base, place.folder, switch)
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
