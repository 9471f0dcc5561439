"""A sorted snapshot yields the rows of any partition, whatever its own partitions are."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_snapshot import SETTINGS, describe, snapshot_of
from mirrored_cohort import UIDS, Cohort, MirrorRun
from weak_hash import only_bits

from engine.errors import LedgerError
from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.snapshot.file_format import look_up
from engine.snapshot.fold import RunChanges, fold
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.partitions import is_sorted, open_rows, sort_rows
from engine.snapshot.records import Census, Snapshot, UidState
from engine.snapshot.sorted_file import SNAPSHOT, Layout, bits_for, write_sorted
from engine.storage.computation import ComputeOptions
from engine.storage.uid_hash import HASH_BITS, WHOLE, Partition, hashes
from engine.storage.uid_parquet import open_parquet, schema_of, write_batches

UID_COLUMN = schema_of(uid=pa.binary())
OPTIONS = ComputeOptions(SETTINGS)


@contextmanager
def small_parts(*, is_weak: bool = False) -> Iterator[None]:
    """Make row groups and parts tiny, and perhaps the hash weak."""
    with ExitStack() as stack:
        for name, value in (("_ROWS_A_PARTITION", 8), ("_ROWS_A_WRITE", 2)):
            stack.enter_context(patch(f"engine.snapshot.sorted_file.{name}", value))
        stack.enter_context(patch("engine.storage.uid_parquet._GROUP_ROWS", 3))
        if is_weak:
            # Two of four hashes are in the same partition of up to 63 bits.
            stack.enter_context(only_bits((1 << 63) + 1))
        yield


def hash_of(uid: str) -> int:
    return int(hashes(pa.array([uid.encode()]))[0])


@given(
    known=st.dictionaries(
        st.text(min_size=1, max_size=6) | st.integers(1, 300).map("x".__mul__),
        st.tuples(st.sampled_from(UidState), st.integers(0, 9)),
        max_size=60,
    ),
    bits=st.integers(0, 7),
    is_weak=st.booleans(),
)
def test_any_partition_has_its_rows(
    *, known: dict[str, tuple[UidState, int]], bits: int, is_weak: bool
) -> None:
    with TemporaryDirectory() as name, small_parts(is_weak=is_weak):
        path = Path(name) / "sorted.parquet"
        old = snapshot_of(known, Path(name) / "old.parquet")
        made = sort_rows(old, path, OPTIONS)
        assert (made, made.census) == (describe(path), old.census)
        found: list[tuple[str, tuple[UidState, int]]] = []
        with open_rows(made, path.parent, OPTIONS) as rows:
            assert rows.rows_in_file == len(known)
            for partition in WHOLE.divided(bits):
                part, keys = rows.rows(partition, None)
                assert keys is not None
                uids = [uid.decode() for uid in part["uid"].to_pylist()]
                assert keys.tolist() == [hash_of(uid) for uid in uids]
                assert all(partition.first <= key <= partition.last for key in keys.tolist())
                states = zip(part["state"].to_pylist(), part["run"].to_pylist(), strict=True)
                found += zip(uids, states, strict=True)
        assert dict(found) == known
        keyed = [(hash_of(uid), uid.encode()) for uid, _ in found]
        assert keyed == sorted(keyed)
        with open_parquet(path) as file:
            assert file.num_row_groups == len(Layout.of(file).starts)  # type: ignore[union-attr] # sorted
        for uid in (*known, "somebody else"):
            assert look_up(path, uid) == known.get(uid)


def test_why_reads_one_row_group(tmp_path: Path) -> None:
    known = {f"u{number}": (UidState.IN, 1) for number in range(200)}
    with small_parts():
        made = snapshot_of(known, tmp_path / "sorted.parquet", is_sorted=True)
    read: list[int] = []
    real = pq.ParquetFile.read_row_groups

    def watched(self: pq.ParquetFile, groups: list[int], **how: object) -> pa.Table:
        read.extend(groups)
        return real(self, groups, **how)

    with patch.object(pq.ParquetFile, "read_row_groups", watched):
        assert look_up(made.path, "u7") == (UidState.IN, 1)
    assert len(read) == 1


def test_partitions_are_small_whatever_the_uids_are() -> None:
    assert bits_for(0, 0) == bits_for(99_999, 3_900_000) == 0
    assert bits_for(100_000_000, 3_300_000_000) == 10
    assert bits_for(1_000_000, 10_000_000_000) == 12


def test_all_uids_may_be_in_one_partition(tmp_path: Path) -> None:
    """Uids can be chosen so: the parts that are read and written stay small."""
    uids = [f"u{number}" for number in range(3000)]
    crowded = patch(
        "engine.storage.uid_hash._finish", lambda found: np.right_shift(found, 30, out=found)
    )
    with crowded, small_parts():
        path = tmp_path / "sorted.parquet"
        made = snapshot_of(dict.fromkeys(uids, (UidState.IN, 1)), path, is_sorted=True)
        with open_rows(made, tmp_path, OPTIONS) as rows, open_parquet(path) as file:
            layout = Layout.of(file)
            assert layout is not None
            assert max(layout.rows) < 8
            place = int(layout.starts[50])
            part = Partition(HASH_BITS, place)
            assert rows.bytes_in(part) < rows.bytes_in(WHOLE) / 100
            assert len(rows.rows(part, None)[0]) >= 1
        assert look_up(path, uids[7]) == (UidState.IN, 1)


def unsorted_but_says_so(path: Path) -> Snapshot:
    rows = pa.record_batch(
        [
            pa.array([f"u{number}".encode() for number in range(40)]),
            pa.array([1] * 40, pa.uint8()),
            pa.array([1] * 40, pa.int32()),
        ],
        schema=SNAPSHOT,
    )
    return write_sorted(path, [(rows, np.arange(40, dtype=np.uint64))])


NOT_SORTED = r"base\.parquet cannot be read: its rows are not in the order"


def test_a_snapshot_that_is_not_sorted_as_it_says_is_refused(tmp_path: Path) -> None:
    made = unsorted_but_says_so(tmp_path / "base.parquet")
    with pytest.raises(LedgerError, match=NOT_SORTED):
        look_up(made.path, "u7")
    with pytest.raises(LedgerError, match=NOT_SORTED):
        fold(made, RunChanges(1, [], [], []), tmp_path / "next.parquet", OPTIONS)
    assert not (tmp_path / "next.parquet").exists()


def test_another_version_of_the_hash_makes_a_snapshot_unsorted(tmp_path: Path) -> None:
    known = dict.fromkeys(UIDS, (UidState.IN, 3))
    with patch("engine.snapshot.sorted_file.HASH_VERSION", 0):
        old = snapshot_of(known, tmp_path / "old.parquet", is_sorted=True)
        assert is_sorted(old)
    assert not is_sorted(old)
    assert {look_up(old.path, uid) for uid in UIDS} == {(UidState.IN, 3)}
    made = sort_rows(old, tmp_path / "new.parquet", OPTIONS)
    assert is_sorted(made)
    assert made.census == Census(members=len(UIDS))


def test_a_million_rows_of_one_uid_are_one_change(tmp_path: Path) -> None:
    count = 1_000_000
    path = tmp_path / "adds.parquet"
    rows = pa.record_batch([pa.array([b"often"]).take(pa.array([0] * count))], schema=UID_COLUMN)
    write_batches(path, UID_COLUMN, [rows])
    outcomes = [RangeOutcome(Operation.ADD, 0, count, is_accepted=True)]
    changes = RunChanges(5, [OperationUids(Operation.ADD, {0: path})], outcomes, [])
    base = snapshot_of({"rare": (UidState.IN, 1)}, tmp_path / "base.parquet", is_sorted=True)
    with patch("engine.snapshot.partitions.partition_bytes", lambda *_: 4_000_000):
        made = fold(base, changes, tmp_path / "next.parquet", OPTIONS)
    assert made.census == Census(members=2)
    assert look_up(made.path, "often") == (UidState.IN, 5)


def as_an_older_version_wrote(cohort: Cohort) -> None:
    """Replace the current snapshot by one that is not sorted."""
    path = cohort.snapshots[-1]
    with path.open("rb") as file:
        table = pq.read_table(file)
    write_batches(path, SNAPSHOT, table.cast(SNAPSHOT).to_batches(), "zstd")
    with closing(sqlite3.connect(cohort.commands.ledger)) as connection, connection:
        connection.execute(
            "UPDATE generation SET digest = ? WHERE file = ?", (describe(path).digest, path.name)
        )


def test_an_older_snapshot_is_sorted_once_and_says_so(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path)
    cohort.carry_out(MirrorRun(frozenset(UIDS[:5])))
    cohort.commands.machine.pause(1000.0)
    as_an_older_version_wrote(cohort)
    before = cohort.commands.look(lambda store: store.generations())[0]
    for is_first in (True, False):
        ended = cohort.commands.mirror(UIDS[:5])
        assert ended.result is not None
        note = "generation 1 of the snapshot is from an older version: it was sorted"
        assert (note in str(ended.result.accounts.to_dict())) == is_first
        sort, old = cohort.commands.look(lambda store: store.generations())[:2]
        assert old == before
        assert sort.number == old.number + 1
        assert (sort.origin, sort.members, sort.run) == ("sort", old.members, old.run)
        assert sort.last_attempt == old.last_attempt
    cohort.commands.look(lambda store: store.verify_all())
    assert cohort.members() == set(UIDS[:5])
