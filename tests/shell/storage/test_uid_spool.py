"""The division of rows into partitions: complete, in order, and within the limit of memory."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import (
    CohortSyncError,
    ConfigError,
    IncompleteError,
    LedgerError,
    StateFullError,
)
from engine.storage import uid_spool
from engine.storage.computation import ComputeOptions
from engine.storage.settings import PlanningSettings
from engine.storage.uid_hash import WHOLE, Partition, hashes
from engine.storage.uid_parquet import schema_of
from engine.storage.uid_spool import Side, open_spool, partitions

ROWS = schema_of(uid=pa.binary(), row=pa.int64())
SETTINGS = PlanningSettings(memory_megabytes=64)
OPTIONS = ComputeOptions(SETTINGS)

Found = list[tuple[Partition, list[tuple[bytes, int]]]]


@pytest.fixture(scope="module", autouse=True)
def _small_buffers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(uid_spool, "_MOST_BUFFERED", 2000)
        patched.setattr(uid_spool, "_LEAST_BUFFERED", 300)
        yield


def first_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Reduce rows to the first one of each uid."""
    first: dict[bytes, int] = {}
    for uid, row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        first.setdefault(uid, row)
    return batch(list(first), list(first.values()))


def batch(uids: list[bytes], rows: list[int]) -> pa.RecordBatch:
    """Return rows of the schema `ROWS`."""
    return pa.record_batch([pa.array(uids, pa.binary()), pa.array(rows, pa.int64())], schema=ROWS)


def divided(
    folder: Path, uids: list[bytes], limit: int, options: ComputeOptions = OPTIONS
) -> Found:
    """Write uids with their row numbers, and return the rows of each partition."""
    with open_spool(folder, ROWS, SETTINGS) as spool:
        for start in range(0, len(uids), 7):
            part = uids[start : start + 7]
            spool.write(batch(part, list(range(start, start + len(part)))))
        spool.finish()
        return [
            (partition, list(zip(*(column.to_pylist() for column in rows.columns), strict=True)))
            for partition, [rows] in partitions([Side(spool, first_rows)], limit, options)
        ]


@given(
    st.lists(st.binary(max_size=30) | st.binary(min_size=900, max_size=999), max_size=400)
    | st.lists(st.sampled_from([b"one", b"two"]), max_size=400),
    st.integers(100, 20_000),
)
@settings(max_examples=60)
def test_every_row_is_in_its_partition_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, uids: list[bytes], limit: int
) -> None:
    """Each uid's first row is first; the partitions are ascending and cover everything."""
    found = divided(tmp_path_factory.getbasetemp(), uids, limit)
    following = 0
    first: dict[bytes, int] = {}
    for partition, rows in found:
        assert partition.first == following
        following = partition.last + 1
        for (uid, row), value in zip(rows, hashes_of(rows), strict=True):
            assert partition.first <= value <= partition.last
            assert row >= first.setdefault(uid, row)
        if len({uid for uid, _ in rows}) > 1:
            assert sum(len(uid) + 12 for uid, _ in rows) <= limit
    assert following == 2**64
    assert first == {uid: uids.index(uid) for uid in set(uids)}


def hashes_of(rows: list[tuple[bytes, int]]) -> list[int]:
    """Return the hash of each row's uid."""
    return list(hashes(pa.array([uid for uid, _ in rows], pa.binary())))


def test_equal_uids_are_reduced_instead_of_divided(tmp_path: Path) -> None:
    """No division separates them; their number does not count against the limit."""
    found = divided(tmp_path, [b"same"] * 30_000 + [b"other"] * 20_000, 100)
    assert sorted(row for _, rows in found for row in rows) == [(b"other", 30_000), (b"same", 0)]
    assert max(partition.bits for partition, _ in found) <= 10


def test_a_partition_is_divided_until_it_fits(tmp_path: Path) -> None:
    """Even if all its uids have the same highest bits by construction."""
    uids = [b"%d" % number for number in range(60_000)]
    top = hashes(pa.array(uids, pa.binary())) >> np.uint64(56)
    chosen = [uid for uid, number in zip(uids, top, strict=True) if number == 77]
    found = divided(tmp_path, chosen, 500)
    assert sorted(uid for _, rows in found for uid, _ in rows) == sorted(chosen)
    assert max(partition.bits for partition, _ in found) > 10


def test_uids_of_one_hash_are_kept_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition of all bits can't be divided, so the limit does not apply to it."""
    monkeypatch.setattr(uid_spool, "hashes", lambda uids: np.full(len(uids), 2**63, np.uint64))
    uids = [b"%d" % number for number in range(300)]
    [(_, rows)] = [each for each in divided(tmp_path, uids, 500) if each[1]]
    assert sorted(uid for uid, _ in rows) == sorted(uids)


def test_other_needs_of_a_partition_divide_it(tmp_path: Path) -> None:
    """Also beyond the bits by which an empty spool divides its rows."""
    with open_spool(tmp_path, ROWS, SETTINGS) as spool:
        spool.finish()
        sides = [Side(spool, first_rows)]
        found = list(partitions(sides, 1, OPTIONS, lambda each: 1024 >> each.bits))
    assert [each for each, _ in found] == WHOLE.divided(10)


def test_a_stop_ends_the_division(tmp_path: Path) -> None:
    """It is noticed before the next partition."""
    options = ComputeOptions(SETTINGS)
    options.interruption.trip(IncompleteError("stopped"))
    with pytest.raises(IncompleteError, match="stopped"):
        divided(tmp_path, [b"a"], 100, options)


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    """The file has no name, so that it disappears even if the process is killed."""
    with open_spool(tmp_path, ROWS, SETTINGS) as spool:
        for number in range(500):
            spool.write(batch([b"%d" % number], [number]))
        spool.finish()
        assert spool.rows_in(WHOLE) == 500
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "spill_dir", "expected"),
    [
        (errno.ENOSPC, None, StateFullError),
        (errno.ENOSPC, "spill", StateFullError),
        (errno.EACCES, None, LedgerError),
        (errno.EACCES, "spill", ConfigError),
    ],
)
def test_a_folder_that_takes_no_file_is_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    spill_dir: str | None,
    expected: type[CohortSyncError],
) -> None:
    """The error names the setting if that is what is to be changed."""
    where = str(tmp_path / spill_dir) if spill_dir else None

    def refuse(**_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("engine.storage.uid_spool.tempfile.TemporaryFile", refuse)
    chosen = PlanningSettings(memory_megabytes=64, spill_dir=where)
    with pytest.raises(expected) as caught, open_spool(tmp_path, ROWS, chosen):
        pass
    assert ("plan.spill_dir" in caught.value.message) == (expected is ConfigError)
    assert caught.value.hint


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    """Also one that fills up while rows are written."""
    full = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 - closed by the spool
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("engine.storage.uid_spool.tempfile.TemporaryFile", lambda **_: full)
        with pytest.raises(StateFullError, match="the disk is full"):
            divided(tmp_path, [b"%d" % number for number in range(500)], 100)
