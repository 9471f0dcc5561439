"""Delta tables as exports: one version, one column, without deleted rows."""

import socket
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import delta_log
import pyarrow as pa
import pytest
from clean_room import until
from deltalake import DeltaTable, write_deltalake

from engine.errors import (
    EmptyExportError,
    MissingExportError,
    SourceError,
    SourceUnavailableError,
    UsageError,
)
from engine.source.block import BLANK, Block, Skipped
from engine.source.lake import delta
from engine.source.lake.table import unreadable_table
from engine.source.options import ReadingOptions
from engine.source.protocol import files_of, is_rereadable
from engine.source.spec import SourceSpec


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(uids: list[Any], mode: str = "append", **others: pa.Array) -> None:
    write_deltalake("vip", pa.table({"uid": pa.array(uids), **others}), mode=mode)


def blocks(name: str = "delta:vip", **options: str | bool) -> list[Block]:
    return list(SourceSpec((name,), ReadingOptions(**options)).open().blocks())


def uids(name: str = "delta:vip", **options: str | bool) -> list[str]:
    return [uid for block in blocks(name, **options) for uid in block.uids.to_pylist()]


def test_a_version_is_named_pinned_and_read_again() -> None:
    write(["u1", "u2"])
    write(["u3"], mode="overwrite")
    spec = SourceSpec(("delta:vip",)).pinned()
    assert spec.files == ("delta:vip@1",)
    write(["u4"])
    assert uids(spec.files[0]) == ["u3"]
    assert uids("delta:vip@0") == ["u1", "u2"]
    assert sorted(uids()) == ["u3", "u4"]
    assert spec.open().identity == {
        "table": str(Path("vip").absolute()),
        "version": 1,
        "column": "uid",
        "strip": False,
    }
    assert spec.pinned() == spec


def test_a_time_means_the_version_that_was_current_then() -> None:
    write(["u1"])
    first = DeltaTable("vip").history()[0]["timestamp"]
    write(["u2"], mode="overwrite")
    second = DeltaTable("vip").history()[0]["timestamp"]

    def at(milliseconds: int) -> str:
        return f"delta:vip@{datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()}"

    assert SourceSpec((at(second + 1000),)).pinned().files == ("delta:vip@1",)
    with pytest.raises(SourceError, match="had no version yet at"):
        SourceSpec((at(first - 60_000),)).open()


def test_the_table_counts_as_one_file_of_the_time_of_its_version() -> None:
    write(["u1", "u2"])
    write(["u3"])
    times = [each["timestamp"] * 1_000_000 for each in DeltaTable("vip").history()]
    for version, written in enumerate(reversed(times)):
        source = SourceSpec((f"delta:vip@{version}",)).open()
        (file,) = files_of(source)
        assert (file.name, file.written_utc_ns) == (f"delta:vip@{version}", written)
    assert file.bytes == sum(path.stat().st_size for path in Path("vip").glob("*.parquet"))
    assert is_rereadable(source)
    assert len(list(source.blocks())) == len(list(source.blocks()))
    assert files_of(source)[0].uids == 3


def test_the_order_of_rows_is_the_same_each_time_and_after_a_checkpoint() -> None:
    parts = pa.array(["a", "b", "c", "d"] * 500)
    for number in range(6):
        rows = [f"u{number}-{row}" for row in range(2_000)]
        data = pa.table({"uid": rows, "part": parts})
        write_deltalake("vip", data, mode="append", partition_by=["part"])
    first = uids(column="uid")
    assert len(first) == 12_000
    assert uids(column="uid") == first
    DeltaTable("vip").create_checkpoint()
    assert uids("delta:vip@5", column="uid") == first


def test_rows_marked_by_a_deletion_vector_are_left_out() -> None:
    write([f"u{number}" for number in range(10)])
    delta_log.delete_rows(Path("vip"), [2, 7])
    assert uids() == ["u0", "u1", "u3", "u4", "u5", "u6", "u8", "u9"]
    assert len(uids("delta:vip@0")) == 10


def test_a_renamed_column_is_read_by_the_name_that_the_table_has() -> None:
    write(["u1", "u2"])
    delta_log.rename_column(Path("vip"), "user_id", "uid")
    assert uids(column="user_id") == ["u1", "u2"]


def test_a_column_that_older_files_lack_is_blank_there() -> None:
    write(["u1"])
    data = pa.table({"uid": ["u2"], "crm id": ["c2"]})
    write_deltalake("vip", data, mode="append", schema_mode="merge")
    read = blocks(column="crm id")
    assert [uid for block in read for uid in block.uids.to_pylist()] == ["c2"]
    assert [each.reason for block in read for each in block.skipped] == [BLANK]


@pytest.mark.parametrize("name", ['a"b', "Upper", "a.b", "select", "ü"])
def test_any_name_of_a_column_can_be_read(name: str) -> None:
    write_deltalake("vip", pa.table({name: ["u1"], "other": ["no"]}))
    assert uids(column=name) == ["u1"]


def test_types_and_records_are_those_of_files() -> None:
    write([7, None, -1], nested=pa.array([{"id": " a "}, {"id": ""}, None]))
    (block,) = blocks(column="uid")
    assert block.uids.to_pylist() == ["7", "-1"]
    assert (block.file, block.first_record, block.records) == ("delta:vip@0", 1, 3)
    assert block.skipped == (Skipped(2, 1, BLANK),)
    assert uids(column="nested.id", strip=True) == ["a"]


def test_blocks_stay_small_however_large_a_file_is() -> None:
    write([f"user-{number:012}" for number in range(200_000)])
    read = blocks()
    assert sum(block.records for block in read) == 200_000
    assert max(block.records for block in read) <= 32_768
    assert [block.first_record for block in read][1] == read[0].records + 1


def test_a_table_without_uids_has_nothing_to_send() -> None:
    write(pa.array([None, ""], pa.string()))
    with pytest.raises(EmptyExportError, match=r"delta:vip@0: nothing to send.*2 blank"):
        blocks()


@pytest.mark.parametrize(
    ("name", "options", "message", "hint"),
    [
        ("delta:nothing", {}, "there is no Delta table", "_delta_log"),
        ("delta:vip@7", {}, "has no version 7", "its last is 1"),
        (f"delta:vip@{10**25}", {}, f"has no version {10**25}", "its last is 1"),
        ("delta:vip", {}, "which one holds the uids", "'uid', 'score'"),
        ("delta:vip", {"column": "uidd"}, "has no column 'uidd'", "'uid'"),
        ("delta:vip", {"column": "score"}, "is double, which cannot be", "write the column as"),
        ("delta:vip@2026-11-27T03:00", {}, "is not a time with its zone", "03:00Z"),
        ("delta:s3://key:word@b/t", {}, "may have no credentials", "environment"),
        ("vip", {}, "is a Delta table", "delta:"),
        ("v*", {}, "is a Delta table", "delta:"),
        ("vip/*.parquet", {}, "is a Delta table", "delta:"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_a_hint(
    name: str, options: dict[str, Any], message: str, hint: str
) -> None:
    for _ in range(2):
        write(["u1"], score=pa.array([0.5]))
    with pytest.raises((SourceError, UsageError), match=message) as raised:
        blocks(name, **options)
    assert hint in (raised.value.hint or "")
    assert "word" not in str(raised.value)


def test_a_table_that_is_not_there_yet_is_a_missing_export() -> None:
    with pytest.raises(MissingExportError):
        SourceSpec(("delta:vip",)).states()
    write(["u1"])
    (state,) = SourceSpec(("delta:vip",)).states().values()
    assert state is not None
    assert state.size


def test_a_version_whose_files_a_vacuum_deleted_says_so() -> None:
    write(["u1"])
    write(["u2"], mode="overwrite")
    DeltaTable("vip").vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(SourceError, match="delta:vip@0: files of this version were deleted"):
        blocks("delta:vip@0")
    assert uids() == ["u2"]


def test_a_damaged_file_or_log_is_an_error_without_a_traceback() -> None:
    write(["u1"])
    for path in Path("vip").glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SourceError, match="delta:vip@0: cannot be read"):
        blocks()
    Path(f"vip/_delta_log/{0:020}.json").write_text("no log\n")
    with pytest.raises(SourceError, match="delta:vip: cannot be read"):
        blocks()


def test_a_panic_of_the_library_is_an_error_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def fail(*_: object, **__: object) -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr(delta, "DeltaTable", fail)
    with pytest.raises(SourceError, match=r"deltalake failed .called `Option"):
        blocks()


def test_a_store_that_cannot_be_reached_may_be_reached_later() -> None:
    for text in ("error sending request for url", "status code; 503 Slow Down", "timed out"):
        assert isinstance(unreadable_table("t", OSError(text)), SourceUnavailableError)
    for text in ("GET http://host/503", "non-2xx status code: 404 Not Found"):
        assert not isinstance(unreadable_table("t", OSError(text)), SourceUnavailableError)


def test_what_a_library_says_is_shown_in_one_line_without_credentials() -> None:
    error = OSError(
        "\x1b[31m\u21b3\x1b[0m GET https://u:secret@h/a?sig=secret in 3 s\n\n no \x07\n"
    )
    message = unreadable_table("t", error).message
    assert message == "t: cannot be read (GET https://h/a in 3 s; no \\x07)"


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.slow
def test_a_table_in_s3_is_read_with_credentials_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A process of its own: the server of moto that tests run in threads does not serve deltalake.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings = {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "REGION": "us-east-1"}
    settings |= {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "ALLOW_HTTP": "true"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    try:
        until(lambda: _answers(port), "moto answers")
        request = Request(f"http://127.0.0.1:{port}/lake", method="PUT")
        urlopen(request).close()  # noqa: S310 - http
        for uid in ("u1", "u2"):
            write_deltalake("s3://lake/vip", pa.table({"uid": [uid]}), mode="overwrite")
        assert uids("delta:s3://lake/vip") == ["u2"]
        assert uids("delta:s3://lake/vip@0") == ["u1"]
        with pytest.raises(MissingExportError):
            blocks("delta:s3://lake/none")
    finally:
        server.kill()
        server.wait()


def test_a_table_is_read_alone() -> None:
    write(["u1"])
    with pytest.raises(UsageError, match="a table is read alone"):
        SourceSpec(("delta:vip", "a.csv")).open()


@pytest.mark.parametrize(("kind", "package"), [("delta", "deltalake"), ("iceberg", "pyiceberg")])
def test_a_missing_package_is_named(
    kind: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"engine.source.lake.{kind}", raising=False)
    for module in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"{kind}:vip: needs the package {package}") as raised:
        SourceSpec((f"{kind}:vip",)).open()
    assert f"'.[{kind}]'" in (raised.value.hint or "")
