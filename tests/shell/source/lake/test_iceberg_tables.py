"""Iceberg tables as exports: one snapshot, one column, without deleted rows."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import iceberg_deletes
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import ServiceUnavailableError
from pyiceberg.table import DataScan, Table
from pyiceberg.types import StringType

from engine.errors import (
    EmptyExportError,
    MissingExportError,
    SourceError,
    SourceUnavailableError,
)
from engine.source.block import BLANK, Block
from engine.source.lake import iceberg
from engine.source.options import ReadingOptions
from engine.source.protocol import files_of
from engine.source.spec import SourceSpec

NAME = "iceberg:lake.db.vip"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog]:
    """Make a catalog in SQLite, and pass it on in place of pyiceberg's configuration."""
    settings = {"uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}"}
    catalog = load_catalog("lake", type="sql", **settings)
    catalog.create_namespace("db")
    monkeypatch.setattr(
        iceberg, "load_catalog", lambda name: {"lake": catalog}.get(name) or load_catalog(name)
    )
    yield catalog
    catalog.close()


def rows(uids: list[str | None]) -> pa.Table:
    nested = pa.array([{"id": f"n-{uid}"} for uid in uids])
    return pa.table({"uid": pa.array(uids), "score": [0.5] * len(uids), "nested": nested})


@pytest.fixture
def table(catalog: Catalog) -> Table:
    table = catalog.create_table("db.vip", schema=rows(["u"]).schema)
    table.append(rows(["u1", "u2", "u3"]))
    return table


def blocks(name: str = NAME, column: str = "uid") -> list[Block]:
    return list(SourceSpec((name,), ReadingOptions(column)).open().blocks())


def uids(name: str = NAME, column: str = "uid") -> list[str]:
    return [uid for block in blocks(name, column) for uid in block.uids.to_pylist()]


def test_a_snapshot_is_named_pinned_and_read_again(table: Table) -> None:
    first = table.current_snapshot()
    pinned = SourceSpec((NAME,), ReadingOptions("uid")).pinned()
    assert pinned.files == (f"{NAME}@{first.snapshot_id}",)
    table.append(rows(["u4"]))
    assert uids(pinned.files[0]) == ["u1", "u2", "u3"]
    assert sorted(uids()) == ["u1", "u2", "u3", "u4"]
    time = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC).isoformat()
    assert SourceSpec((f"{NAME}@{time}",)).pinned().files == pinned.files
    (file,) = files_of(pinned.open())
    assert (file.name, file.written_utc_ns) == (pinned.files[0], first.timestamp_ms * 1_000_000)


def test_the_order_of_files_does_not_depend_on_the_manifests(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4, 8):
        table.append(rows([f"u{number}"]))
    first, plan = uids(), DataScan.plan_files
    monkeypatch.setattr(DataScan, "plan_files", lambda scan: reversed(list(plan(scan))))
    assert uids() == first
    assert len(first) == 7


def test_rows_in_a_delete_file_are_left_out(table: Table, tmp_path: Path) -> None:
    metadata = iceberg_deletes.delete_rows(table, tmp_path, [1])
    assert uids(f"iceberg:{metadata}") == ["u1", "u3"]


def test_deletes_by_equality_are_refused(table: Table, tmp_path: Path) -> None:
    metadata = iceberg_deletes.delete_rows(table, tmp_path, [1], by_equality=True)
    with pytest.raises(SourceError, match="equality deletes") as raised:
        blocks(f"iceberg:{metadata}")
    assert "rewrite the table's files" in (raised.value.hint or "")


def test_columns_may_be_nested_renamed_or_new(table: Table) -> None:
    assert uids(column="nested.id") == ["n-u1", "n-u2", "n-u3"]
    with table.update_schema() as update:
        update.rename_column("uid", "user_id").add_column("crm", StringType())
    assert uids(column="user_id") == ["u1", "u2", "u3"]
    with pytest.raises(EmptyExportError, match=f"3 {BLANK}"):
        blocks(column="crm")
    older = table.current_snapshot().snapshot_id
    table.append(pa.table({"user_id": ["u4"]}))
    assert uids(f"{NAME}@{older}", column="uid") == ["u1", "u2", "u3"]


def test_a_file_is_read_page_by_page_unless_only_the_library_can_read_it(
    catalog: Catalog, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = iceberg_deletes.delete_rows(table, tmp_path, [1])
    large = pa.table({"uid": [f"user-{number:012}" for number in range(100_000)]})
    catalog.create_table("db.large", schema=large.schema).append(large)
    monkeypatch.setattr(iceberg.ArrowScan, "to_record_batches", lambda *_: iter(()))
    read = blocks("iceberg:lake.db.large")
    assert sum(block.records for block in read) == 100_000
    assert max(block.records for block in read) <= 32_768
    with pytest.raises(EmptyExportError):
        blocks(f"iceberg:{metadata}")


UNREADABLE = [
    (f"{NAME}@7", "uid", "has no snapshot 7", "its current one is"),
    (f"{NAME}@2020-01-01T00:00Z", "uid", "has no snapshot of 2020", "its current one is"),
    (NAME, "uidd", "has no column 'uidd'", "'uid'"),
    (NAME, "score", "is double, which cannot be a uid", "write the column as"),
    ("iceberg:vip", "uid", "is not the name of a table", "CATALOG.NAMESPACE.TABLE"),
    ("iceberg:nothing.db.vip", "uid", "catalog 'nothing' cannot", "PYICEBERG_CATALOG__NOTHING"),
]


@pytest.mark.usefixtures("table")
def test_what_cannot_be_read_is_one_error_with_a_hint() -> None:
    for name, column, message, hint in UNREADABLE:
        with pytest.raises(SourceError, match=message) as raised:
            blocks(name, column)
        assert hint in (raised.value.hint or "")
    for missing in ("lake.db.no", "lake.no.vip", "/nowhere/v1.metadata.json"):
        with pytest.raises(MissingExportError):
            blocks(f"iceberg:{missing}")


def test_a_table_without_a_snapshot_has_nothing_to_send(catalog: Catalog) -> None:
    catalog.create_table("db.vip", schema=rows(["u"]).schema)
    with pytest.raises(EmptyExportError, match="nothing was ever written"):
        blocks()


@pytest.mark.usefixtures("table")
def test_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()
    with pytest.raises(SourceError, match=f"{NAME}@[0-9]+: files of this version were deleted"):
        blocks()


def test_a_catalog_that_cannot_be_reached_may_be_reached_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(iceberg, "load_catalog", fail)
    error: Exception = ServiceUnavailableError("503 Service Unavailable")
    with pytest.raises(SourceUnavailableError):
        blocks()
    error = RuntimeError("an error of any catalog")
    with pytest.raises(SourceError, match="an error of any catalog"):
        blocks()
