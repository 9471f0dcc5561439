"""A damaged file of uids is refused or read right, never read wrong, and never a bug."""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from known_snapshot import describe
from listed_members import adopt, listed, reconcile
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from whole_push import Death

from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError, IncompleteError, LedgerError, UsageError
from engine.planning.comparison import OPERATION
from engine.runs import transfer
from engine.snapshot.file_format import look_up, take_over
from engine.snapshot.partitions import open_rows
from engine.snapshot.records import Census, Snapshot, UidState
from engine.snapshot.sorted_file import SNAPSHOT, write_sorted
from engine.storage.capacity import affordable
from engine.storage.computation import ComputeOptions
from engine.storage.settings import PlanningSettings
from engine.storage.uid_groups import group_uids
from engine.storage.uid_hash import WHOLE
from engine.storage.uid_parquet import read_batches, write_batches

OPTIONS = ComputeOptions(PlanningSettings(memory_megabytes=64, threads=1))
COUNT = 40


def rows_of(schema: pa.Schema, first: int = 0, count: int = COUNT) -> pa.RecordBatch:
    numbers = range(first, first + count)
    return pa.record_batch(
        [
            pa.array([f"u{number:04}".encode() for number in numbers]),
            pa.array([1 + number % 4 for number in numbers], pa.uint8()),
            pa.array([7] * count, pa.int32()),
        ],
        schema=schema,
    )


def exported(path: Path) -> None:
    """Write a file as `snapshot export` does."""
    schema = SNAPSHOT.with_metadata({b"cohortsync.cohort": b"c", b"cohortsync.target": b"t"})
    write_batches(path, schema, [rows_of(schema)], "zstd")


def from_folder_of_snapshots(path: Path) -> None:
    write_batches(path, SNAPSHOT, [rows_of(SNAPSHOT)], "zstd")


def sorted_by_hash(path: Path) -> None:
    """Write a file as a fold does, in several row groups."""
    rows = rows_of(SNAPSHOT)
    groups = group_uids([rows["uid"]])
    write_sorted(path, [(rows.take(pa.array(groups.order)), groups.hashes[groups.order])], bits=2)


def from_plan(path: Path) -> None:
    write_batches(path, OPERATION, [rows_of(OPERATION)])


def brought_in(path: Path) -> pa.Table:
    copy = path.with_name("copy.parquet")
    take_over(path, copy, OPTIONS, lambda _: None)
    with copy.open("rb") as file:
        return pq.read_table(file).sort_by("uid")


def compared(path: Path) -> pa.Table:
    """Read each row group on its own, as a comparison does."""
    with open_rows(Snapshot(path, Census(), b""), path.parent, OPTIONS) as rows:
        parts = [rows.rows(each, None)[0] for each in WHOLE.divided(2)]
    return pa.Table.from_batches(parts, SNAPSHOT).sort_by("uid")


def looked_up(path: Path) -> pa.Table:
    """Look up uids of all row groups, as `why` does; return all rows."""
    wanted = rows_of(SNAPSHOT)
    for place in range(0, COUNT, 5):
        uid, state, run = (column[place].as_py() for column in wanted.columns)
        assert look_up(path, uid.decode()) == (state, run)
    assert look_up(path, "nobody") is None
    return compared(path)


FILES: dict[str, tuple[Callable[[Path], None], Callable[[Path], pa.Table], pa.Schema]] = {
    "an exported snapshot that is imported": (exported, brought_in, SNAPSHOT),
    "a snapshot's own file that is imported": (from_folder_of_snapshots, brought_in, SNAPSHOT),
    "a sorted snapshot that uids are looked up in": (sorted_by_hash, looked_up, SNAPSHOT),
    "the uids of a plan": (
        from_plan,
        lambda path: pa.Table.from_batches(read_batches(path, OPERATION.names), OPERATION),
        OPERATION,
    ),
}


def walk_flips(folder: Path, name: str, flips: Callable[[int], Iterator[int]]) -> Counter[str]:
    """Read a file with one bit of it flipped, for each of `flips`; count how that ended."""
    make, read, schema = FILES[name]
    path = folder / "file.parquet"
    make(path)
    content = path.read_bytes()
    wanted = rows_of(schema)
    ended: Counter[str] = Counter()
    for flip in flips(len(content) * 8):
        flipped = bytearray(content)
        flipped[flip // 8] ^= 1 << flip % 8
        path.write_bytes(flipped)
        found = read_or_refused(read, path)
        if isinstance(found, CohortSyncError):
            assert isinstance(found, (UsageError, LedgerError)), flip
            assert found.hint
            assert "\n" not in found.message
            ended["refused"] += 1
        else:
            assert found["uid"].combine_chunks() == wanted["uid"], flip
            assert found[1].combine_chunks() == wanted[1], flip
            ended["right"] += 1
    return ended


def read_or_refused(read: Callable[[Path], pa.Table], path: Path) -> pa.Table | CohortSyncError:
    try:
        return read(path)
    except CohortSyncError as error:
        return error


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_noticed_or_does_no_harm(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    ended = walk_flips(tmp_path, name, lambda bits: iter(sorted(chance.sample(range(bits), 40))))
    assert ended["refused"] > ended["right"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_noticed_or_does_no_harm(tmp_path: Path, name: str) -> None:
    ended = walk_flips(tmp_path, name, lambda bits: iter(range(bits)))
    assert ended["refused"] > ended["right"]


def nulls_for(rows: pa.Table) -> pa.Table:
    column = pa.nulls(len(rows), pa.uint8())
    return rows.set_column(1, "state", column)


def of_another_row_group(rows: pa.Table) -> pa.Table:
    column = pa.array([state % 4 + 1 for state in rows["state"].to_pylist()], pa.uint8())
    return rows.set_column(1, SNAPSHOT.field("state"), column)


WRONG: dict[str, Callable[[pa.Table], pa.Table]] = {
    "states that are null": nulls_for,
    "the states of another row group": of_another_row_group,
    "a row less": lambda rows: rows[:-1],
    "no row": lambda rows: rows[:0],
    "a row twice": lambda rows: pa.concat_tables([rows[:1], rows]),
    "a column less": lambda rows: rows.drop_columns("run"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("read", [looked_up, compared], ids=lambda read: read.__name__)
def test_a_row_group_that_is_read_wrong_is_refused(
    tmp_path: Path, wrong: Callable[[pa.Table], pa.Table], read: Callable[[Path], pa.Table]
) -> None:
    """The pages' checksums do not cover the metadata by which the pages are found."""
    path = tmp_path / "file.parquet"
    sorted_by_hash(path)
    real = pq.ParquetFile.read_row_groups
    with (
        patch.object(
            pq.ParquetFile, "read_row_groups", lambda *given, **how: wrong(real(*given, **how))
        ),
        pytest.raises(LedgerError, match=r"file\.parquet cannot be read"),
    ):
        read(path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_or_goes_on_is_refused(tmp_path: Path, name: str) -> None:
    make, read, _ = FILES[name]
    path = tmp_path / "file.parquet"
    make(path)
    content = path.read_bytes()
    cut = [content[:end] for end in range(0, len(content), 61)]
    for changed in (
        *cut,
        content[:-1],
        content[1:],
        content + b"\0",
        content[:700] + content[701:],
    ):
        path.write_bytes(changed)
        with pytest.raises((UsageError, LedgerError)):
            read(path)


def table(**columns: pa.Array) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            pq.write_table(pa.table(columns), file)

    return write


def snapshot(uids: list[bytes], states: list[int]) -> Callable[[Path], None]:
    columns = [pa.array(uids), pa.array(states, pa.uint8()), pa.array([1] * len(uids), pa.int32())]
    return lambda path: write_batches(path, SNAPSHOT, [pa.record_batch(columns, schema=SNAPSHOT)])


def encrypted(path: Path) -> None:
    exported(path)
    path.write_bytes(path.read_bytes()[:-4] + b"PARE")


UNFIT: dict[str, Callable[[Path], object]] = {
    "nothing there": lambda _: None,
    "an empty file": Path.touch,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "text": lambda path: path.write_text("uid\na\n"),
    "other columns": table(user_id=pa.array(["a"])),
    "uids that are text": table(
        uid=pa.array(["a"]), state=pa.array([1], pa.uint8()), run=pa.array([1], pa.int32())
    ),
    "columns that may hold nulls": table(
        uid=pa.array([b"a"]), state=pa.array([1], pa.uint8()), run=pa.array([1], pa.int32())
    ),
    "the uids of a plan": from_plan,
    "no such state": snapshot([b"a", b"b"], [1, 5]),
    "a state of nothing": snapshot([b"a", b"b"], [0, 1]),
    "a uid that is not UTF-8": snapshot([b"\xff"], [1]),
    "a uid twice": snapshot([b"a", b"b", b"a"], [1, 1, 2]),
    "an encrypted file": encrypted,
}


@pytest.mark.parametrize("make", UNFIT.values(), ids=UNFIT.keys())
def test_what_is_no_snapshot_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    path, copy = tmp_path / "theirs.parquet", tmp_path / "copy.parquet"
    make(path)
    with pytest.raises(UsageError, match=r"theirs\.parquet") as caught:
        take_over(path, copy, OPTIONS, lambda _: None)
    assert not copy.exists()
    assert "copy.parquet" not in caught.value.message


def test_a_snapshot_of_nobody_is_brought_in(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    snapshot([], [])(path)
    assert brought_in(path).num_rows == 0


def harmed(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


COMMANDS: dict[str, Callable[[Cohort], object]] = {
    "mirror": lambda cohort: cohort.commands.mirror(UIDS[:3]).error,
    "adopt": lambda cohort: cohort.commands.in_session(lambda store: adopt(store, UIDS[:3])),
    "compare": lambda cohort: cohort.commands.look(
        lambda store: transfer.compare_with(store, listed(UIDS[:3]), StopSwitch())
    ),
    "export": lambda cohort: cohort.commands.look(
        lambda store: transfer.export(store, store.folder / "copy", None, "t")
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_goes_on_from_a_damaged_snapshot(tmp_path: Path, command: str) -> None:
    cohort = Cohort(tmp_path)
    cohort.carry_out(MirrorRun(frozenset(UIDS[:5])))
    cohort.commands.machine.pause(SETTLE)
    [file] = cohort.commands.ledger.parent.glob("snapshots/*/*/000001.parquet")
    whole = file.read_bytes()
    for place in (40, len(whole) - 1):
        harmed(file, place)
        try:
            error = COMMANDS[command](cohort)
        except CohortSyncError as raised:
            error = raised
        assert isinstance(error, LedgerError), place
        assert "corrupt" in error.message
        file.write_bytes(whole)
    # A list of the real members needs nothing of it.
    harmed(file, 40)
    assert cohort.commands.in_session(lambda store: reconcile(store, UIDS[:3])).members == 3


def test_uids_that_were_sent_and_are_damaged_move_no_snapshot(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path)
    died = cohort.commands.mirror(UIDS[:9], death=Death("arrived", 2))
    assert died.died
    [sent] = cohort.commands.ledger.parent.glob("plans/*/adds.parquet")
    whole = sent.read_bytes()
    for place in range(4, len(whole), len(whole) // 9):
        harmed(sent, place)
        ended = cohort.commands.mirror(UIDS[:9], sends=False)
        if ended.error is not None:
            assert isinstance(ended.error, LedgerError)
            assert cohort.commands.look(lambda store: store.generations()) == []
            sent.write_bytes(whole)
            continue
        [file] = cohort.commands.ledger.parent.glob("snapshots/*/*/000001.parquet")
        assert look_up(file, UIDS[0]) is not None
        return
    cohort.commands.mirror(UIDS[:9], sends=False)
    [file] = cohort.commands.ledger.parent.glob("snapshots/*/*/000001.parquet")
    assert {look_up(file, uid) for uid in UIDS[:3]} == {(UidState.IN, 1)}


LIMITS = {
    "no limit": (-1, 1000, 8, (1000, 8)),
    "room enough": (4000, 1000, 8, (1000, 8)),
    "less room than the threads take": (2000, 1000, 8, (825, 1)),
    "little room": (500, 1000, 8, (75, 1)),
    "no room": (400, 1000, 8, None),
    "less than is taken": (100, 64, 1, None),
}
"""Address space in MB, of which 200 are taken; the settings; what is left of them."""


@pytest.mark.parametrize("case", LIMITS.values(), ids=LIMITS.keys())
def test_a_plan_takes_no_more_address_space_than_there_is(
    monkeypatch: pytest.MonkeyPatch, case: tuple[int, int, int, tuple[int, int] | None]
) -> None:
    limit, memory, threads, expected = case
    monkeypatch.setattr(
        "engine.storage.capacity.resource.getrlimit",
        lambda _: (limit * 1_000_000 if limit > 0 else limit,) * 2,
    )
    monkeypatch.setattr("engine.storage.capacity._address_space", lambda: 200_000_000)
    settings = PlanningSettings(memory_megabytes=memory, threads=threads)
    if expected is None:
        with pytest.raises(IncompleteError, match="address space"):
            affordable(settings)
        return
    found = affordable(settings)
    assert (found.memory_megabytes, found.threads) == expected


def test_the_checksum_of_rows_does_not_depend_on_how_they_come(tmp_path: Path) -> None:
    rows, sizes = rows_of(SNAPSHOT), (1, 3, 17, COUNT)
    kept = set()
    for size in sizes:
        path = tmp_path / f"{size}.parquet"
        write_batches(path, SNAPSHOT, [rows.slice(at, size) for at in range(0, COUNT, size)])
        assert describe(path).census.total == COUNT
        with path.open("rb") as file:
            kept.add(pq.read_metadata(file).metadata[b"cohortsync.rows"])
    assert len(kept) == 1
