"""Where the uids of a plan stood in the export, against the export itself."""

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_snapshot import SETTINGS

from engine.planning.comparison import OPERATION, compare
from engine.planning.staging import EXPORT, stage
from engine.snapshot.export_places import ExportPlaces, open_places
from engine.snapshot.records import PlannedOperation
from engine.source.block import BLANK
from engine.storage.computation import ComputeOptions
from engine.storage.uid_parquet import read_batches, write_batches
from engine.storage.uid_spool import open_spool
from exports import Export, Row, exports, plain_uids

PLAN = Export([[Row("a"), Row(reason=BLANK), Row("b")], [Row("a"), Row("c")]])


def planned(export: Export, folder: Path, block_size: int = 7) -> PlannedOperation:
    """Plan to add all of an export."""
    with open_spool(folder, EXPORT, SETTINGS) as spool:
        with open_places(folder) as places:
            staged = stage(export.blocks(block_size), spool, observe=[places.add])
        return compare(staged, None, folder, ComputeOptions(SETTINGS)).adds


def uids_of(adds: PlannedOperation) -> list[str]:
    return [
        uid.decode() for rows in read_batches(adds.path, ["uid"]) for uid in rows["uid"].to_pylist()
    ]


@given(exports(plain_uids), st.integers(1, 9), st.sampled_from([1, 2, 250_000]))
def test_the_first_place_of_each_add_is_found(export: Export, size: int, group: int) -> None:
    with (
        TemporaryDirectory() as name,
        patch("engine.storage.uid_parquet._GROUP_ROWS", group),
    ):
        folder = Path(name)
        adds = planned(export, folder, size)
        firsts = {}
        for uid, place in zip(export.uids, export.places, strict=True):
            firsts.setdefault(uid, place)
        places = ExportPlaces(folder)
        found = {uid: places.find(position) for position, uid in enumerate(uids_of(adds))}
        assert found == firsts


def test_a_file_without_gaps_takes_one_row(tmp_path: Path) -> None:
    planned(Export([[Row(f"u{number}") for number in range(50)]] * 2), tmp_path)
    rows = pq.read_table(tmp_path / "places.parquet").to_pylist()
    assert rows == [
        {"row": 0, "file": "file-0", "record": 1},
        {"row": 50, "file": "file-1", "record": 1},
    ]
    assert (tmp_path / "places.parquet").stat().st_mode & 0o777 == 0o600


def test_the_adds_of_an_older_plan_have_no_place(tmp_path: Path) -> None:
    adds = planned(PLAN, tmp_path)
    older = [rows.cast(OPERATION) for rows in read_batches(adds.path, OPERATION.names)]
    write_batches(adds.path, OPERATION, older)
    assert ExportPlaces(tmp_path).find(0) is None


@pytest.mark.parametrize("name", ["adds.parquet", "places.parquet"])
def test_a_file_that_is_lost_or_damaged_leaves_no_place(tmp_path: Path, name: str) -> None:
    planned(PLAN, tmp_path)
    content = (tmp_path / name).read_bytes()
    for damaged in (content[:40], b"PAR1", content[:10] + b"\0" * 200 + content[210:]):
        (tmp_path / name).write_bytes(damaged)
        assert ExportPlaces(tmp_path).find(0) is None
    (tmp_path / name).unlink()
    assert ExportPlaces(tmp_path).find(0) is None
