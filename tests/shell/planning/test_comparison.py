"""What a plan compares and folds, against a model of a few lines of Python."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from comparison_cases import (
    BECOMES,
    OPTIONS,
    THIS_RUN,
    UIDS,
    Case,
    blocks_of,
    cases,
    compared,
    known_in,
    uids,
    uids_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from known_snapshot import SETTINGS, Known, describe, snapshot_of, staged_in

from engine.errors import IncompleteError, LedgerError
from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.planning.staging import EXPORT, stage
from engine.snapshot.file_format import look_up, take_over, verify
from engine.snapshot.fold import RunChanges, adopt, fold
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.partitions import is_sorted, sort_rows
from engine.snapshot.records import UNKNOWN, Snapshot, UidState
from engine.source.block import Block, Skipped
from engine.storage.capacity import check_disk
from engine.storage.uid_hash import WHOLE
from engine.storage.uid_parquet import UIDS as UID_COLUMN
from engine.storage.uid_parquet import write_batches
from engine.storage.uid_spool import open_spool


@given(cases)
def test_a_comparison_is_what_the_model_says(case: Case) -> None:
    with TemporaryDirectory() as name:
        found, _ = compared(case, Path(name))
        operations = case.operations()
        for operation, kinds in (
            (found.adds, operations[Operation.ADD]),
            (found.removes, operations[Operation.REMOVE]),
        ):
            listed = uids_of(operation)
            first, second = operation.plain, operation.plain + operation.suspect
            assert sorted(listed[:first]) == sorted(kinds["plain"])
            assert sorted(listed[first:second]) == sorted(kinds["suspect"])
            assert sorted(listed[second : operation.planned]) == sorted(kinds["held"])
            assert sorted(listed[operation.planned :]) == sorted(kinds["known"])
        for operation, file in ((Operation.ADD, found.adds), (Operation.REMOVE, found.removes)):
            assert file.known == len(operations[operation]["known"])
            sent = set().union(
                *(operations[operation][kind] for kind in ("plain", "suspect", "held"))
            )
            assert file.doubtful == sum(case.known.get(u, (0, 0))[0] in UNKNOWN for u in sent)
        resent = case.resent() if case.resend else []
        cut = resent[: case.resend.most] if case.resend else []
        assert uids_of(found.resends) == [member.uid.decode() for member in cut]
        is_cut = case.resend is not None and len(cut) == case.resend.most
        assert found.resent_through == (cut[-1] if is_cut else None)
        left_out = case.left_out
        assert found.excluded == sum(uid in left_out for uid in case.export)
        assert found.duplicate == len(case.export) - found.excluded - len(
            set(case.export) - left_out
        )
        assert found.unchanged == len(case.unchanged)
        parts = [found.duplicate, found.unchanged, found.adds.planned, found.adds.known]
        if case.removals is not None:
            parts += [found.removes.planned, found.removes.known]
        assert sum(parts) + found.excluded == len(case.export)
        left = {path.name for path in Path(name).iterdir()} - {"base.parquet"}
        assert left == {"adds.parquet", "removes.parquet", "resends.parquet"}


@given(cases, st.data())
@settings(max_examples=settings().max_examples // 2)
def test_a_fold_moves_only_what_may_have_changed(case: Case, data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        found, base = compared(case, folder)
        expected = {
            uid: was
            for uid, was in case.known.items()
            if was[0] is not UidState.OUT or was[1] in case.recent
        }
        outcomes = []
        for operation, file in ((Operation.ADD, found.adds), (Operation.REMOVE, found.removes)):
            planned = uids_of(file)[: file.planned]
            cuts = data.draw(st.lists(st.integers(0, len(planned)), max_size=4).map(sorted))
            for start, end in zip([0, *cuts], [*cuts, len(planned)], strict=True):
                is_accepted = data.draw(st.sampled_from([True, False, None]))
                if is_accepted is None or start == end:
                    continue
                outcomes.append(RangeOutcome(operation, start, end - start, is_accepted))
                for uid in planned[start:end]:
                    expected[uid] = (BECOMES[operation, is_accepted], THIS_RUN)
        for _ in range(2):  # Done again after a crash, it comes to the same.
            with case.conditions():
                operations = [
                    OperationUids(Operation.ADD, {0: found.adds.path}),
                    OperationUids(Operation.REMOVE, {0: found.removes.path}),
                ]
                recent = [*case.recent, THIS_RUN]
                changes = RunChanges(THIS_RUN, operations, outcomes, recent)
                after = fold(base, changes, folder / "next.parquet", OPTIONS)
            assert known_in(after.path) == expected
        states = [state for state, _ in expected.values()]
        assert after.census.members == states.count(UidState.IN)
        assert after.census.out == states.count(UidState.OUT)
        assert after.census.unknown == len(states) - after.census.members - after.census.out
        assert after.path.stat().st_mode & 0o777 == 0o600
        verify(after)
        assert after == describe(after.path)
        with case.conditions():
            assert {uid: look_up(after.path, uid) for uid in UIDS} == {
                uid: expected.get(uid) for uid in UIDS
            }


@given(
    cases,
    st.sampled_from([Operation.ADD, Operation.REMOVE]),
    st.lists(
        st.tuples(st.lists(uids, min_size=1, max_size=6), st.sampled_from([True, False, None])),
        max_size=5,
    ),
)
def test_a_fold_of_a_push_knows_who_was_there_and_that_rows_repeat(
    case: Case, operation: Operation, batches: list[tuple[list[str], bool | None]]
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        expected = dict(case.known)
        files, outcomes, place = {}, [], 0
        for batch, is_accepted in batches:
            files[place] = folder / f"{operation}-{place}.parquet"
            rows = pa.record_batch([[uid.encode() for uid in batch]], schema=UID_COLUMN)
            write_batches(files[place], UID_COLUMN, [rows])
            if is_accepted is not None:
                outcomes.append(RangeOutcome(operation, place, len(batch), is_accepted))
            place += len(batch)
        for is_accepted in (False, True):
            for uid in {
                uid for batch, outcome in batches if outcome is is_accepted for uid in batch
            }:
                state, _ = case.known.get(uid, (None, 0))
                unchanged = UidState.IN if operation is Operation.ADD else UidState.OUT
                # Whatever became of it, it is where it was, but what reverses it has to wait.
                is_certain = is_accepted or state is unchanged
                expected[uid] = (BECOMES[operation, is_certain], THIS_RUN)
        with case.conditions():
            kept, recent = [OperationUids(operation, files)], [*case.recent, THIS_RUN]
            changes = RunChanges(THIS_RUN, kept, outcomes, recent)
            after = fold(case.base(folder), changes, folder / "next.parquet", OPTIONS)
        assert known_in(after.path) == {
            uid: (state, run)
            for uid, (state, run) in expected.items()
            if state is not UidState.OUT or run in {*case.recent, THIS_RUN}
        }


@given(cases)
def test_an_adoption_adds_what_is_not_known_yet(case: Case) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        with case.conditions(), staged_in(folder, blocks_of(case.export)) as staged:
            base = case.base(folder)
            target = folder / "next.parquet"
            made = adopt(base, staged.spool, UidState.MAY_BE_IN, target, OPTIONS)
        expected = dict(case.known)
        for uid in case.export:
            state, run = case.known.get(uid, (UidState.MAY_BE_IN, 0))
            expected[uid] = (UidState.MAY_BE_OUT if state is UidState.OUT else state, run)
        assert known_in(made.path) == expected


STEPS = ("add", "remove", "adopt", "reconcile", "import", "sort", "be of an older version")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(STEPS),
            st.lists(uids | st.integers(1, 500).map("x".__mul__), max_size=9),
        ),
        min_size=2,
        max_size=7,
    ),
    st.sampled_from([10**9, 100]),
    st.booleans(),
)
@settings(max_examples=settings().max_examples // 2)
def test_generations_follow_each_other(
    steps: list[tuple[str, list[str]]],
    limit: int,
    is_weak: bool,  # noqa: FBT001 - drawn
) -> None:
    case = Case([], {}, frozenset(), {}, limit=limit, is_weak=is_weak)
    expected: dict[str, tuple[UidState, int]] = {}
    base: Snapshot | None = None
    with TemporaryDirectory() as name, case.conditions():
        for run, (step, listed) in enumerate(steps, start=1):
            path = Path(name) / f"{run}.parquet"
            base = made_by(step, listed, run, base, path)
            expected = expected_after(step, listed, run, expected)
            assert known_in(base.path) == expected
            assert base == describe(base.path)
            assert is_sorted(base) == (step != STEPS[-1])
            for uid in (*listed, "nobody"):
                assert look_up(base.path, uid) == expected.get(uid)


def made_by(step: str, listed: list[str], run: int, base: Snapshot | None, path: Path) -> Snapshot:
    """Make the next generation."""
    if step in {"adopt", "reconcile"}:
        state = UidState.MAY_BE_IN if step == "adopt" else UidState.IN
        with staged_in(path.parent, blocks_of(listed)) as staged:
            return adopt(base if step == "adopt" else None, staged.spool, state, path, OPTIONS)
    base = base or snapshot_of({}, path.with_name("nothing.parquet"))
    if step == "sort":
        return sort_rows(base, path, OPTIONS)
    if step == "import":
        return take_over(base.path, path, OPTIONS, lambda _: None)
    if step == STEPS[-1]:
        return snapshot_of(known_in(base.path), path)
    operation = Operation(step)
    sent = path.with_name(f"{operation}-{run}.parquet")
    rows = pa.record_batch([pa.array([uid.encode() for uid in listed], pa.binary())], UID_COLUMN)
    write_batches(sent, UID_COLUMN, [rows])
    outcomes = [RangeOutcome(operation, 0, len(listed), is_accepted=True)] if listed else []
    changes = RunChanges(run, [OperationUids(operation, {0: sent})], outcomes, [run - 1, run])
    return fold(base, changes, path, OPTIONS)


def expected_after(
    step: str, listed: list[str], run: int, known: Known
) -> dict[str, tuple[UidState, int]]:
    """Return what the next generation holds."""
    if step == "import":
        return {uid: (state, 0) for uid, (state, _) in known.items()}
    if step == "reconcile":
        return dict.fromkeys(listed, (UidState.IN, 0))
    found = dict(known)
    for uid in listed if step in {"adopt", "add", "remove"} else []:
        state, since = known.get(uid, (UidState.MAY_BE_IN, 0))
        if step == "adopt":
            found[uid] = (UidState.MAY_BE_OUT if state is UidState.OUT else state, since)
        else:
            found[uid] = (BECOMES[Operation(step), True], run)
    if step in {"add", "remove"}:
        is_recent = {run - 1, run}
        return {u: s for u, s in found.items() if s[0] is not UidState.OUT or s[1] in is_recent}
    return found


def test_a_stage_counts_every_row_and_hands_on_the_skipped(tmp_path: Path) -> None:
    blocks = [
        Block("a", 1, 4, pa.array(["x", "y"]), (Skipped(2, 1, "blank"), Skipped(4, 1, "odd"))),
        Block("b", 1, 1, pa.array(["x"]), ()),
    ]
    seen: list[Block] = []
    with open_spool(tmp_path, EXPORT, SETTINGS) as spool:
        staged = stage(iter(blocks), spool, observe=[seen.append])
        rows = spool.rows(WHOLE)
    assert sorted(zip(rows["row"].to_pylist(), rows["uid"].to_pylist(), strict=True)) == [
        (0, b"x"),
        (1, b"y"),
        (2, b"x"),
    ]
    assert (staged.rows_read, staged.blank, staged.invalid, staged.uids) == (5, 1, 1, 3)
    assert staged.uid_bytes == 3
    assert seen == blocks


def test_a_broken_or_lost_snapshot_is_noticed(tmp_path: Path) -> None:
    snapshot = snapshot_of({"a": (UidState.IN, 1)}, tmp_path / "s.parquet")
    content = bytearray(snapshot.path.read_bytes())
    content[len(content) // 2] ^= 1
    snapshot.path.write_bytes(content)
    with pytest.raises(LedgerError, match="corrupt"):
        verify(snapshot)
    snapshot.path.unlink()
    with pytest.raises(LedgerError, match="cannot be read"):
        verify(snapshot)


def test_more_than_fits_into_memory_is_compared_on_disk(tmp_path: Path) -> None:
    wanted = [f"{number:024x}" for number in range(100, 4_100)]
    known = {f"{number:024x}": (UidState.IN, 1) for number in range(4_000)}
    found, _ = compared(Case(wanted, known, frozenset(), {}, limit=20_000), tmp_path)
    assert (found.adds.planned, found.removes.planned, found.unchanged) == (100, 100, 3_900)


def test_a_disk_without_room_is_reported_before_it_starts(tmp_path: Path) -> None:
    check_disk(tmp_path, 1)
    with pytest.raises(IncompleteError, match="GB are free") as caught:
        check_disk(tmp_path, 1 << 62)
    assert caught.value.hint
