"""Exports of every format and compression, through the command."""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from emulated_api import Emulator
from nightly import TARGET, CommandLine

UIDS = ["007", "1e5", "NULL", "ünï🦄", "a b"]


def write_text(path: Path) -> None:
    path.write_text("\n".join(UIDS))


def write_csv_gz(path: Path) -> None:
    rows = "".join(f"{uid},x\r\n" for uid in UIDS)
    path.write_bytes(gzip.compress(f"\ufeffuid,other\r\n{rows}".encode()))


def write_tsv_zst(path: Path) -> None:
    rows = "other\tuid\n" + "".join(f"x\t{uid}\n" for uid in UIDS)
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(rows.encode())


def write_ndjson_bz2(path: Path) -> None:
    rows = [json.dumps({"user": {"_id": {"$oid": uid}}}) for uid in UIDS]
    path.write_bytes(bz2.compress("\n".join(rows).encode()))


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"other": [1] * len(UIDS), "uid": UIDS}), path)


def write_headless_csv(path: Path) -> None:
    path.write_text("".join(f"x, {uid}\t\n" for uid in UIDS))


@pytest.mark.parametrize(
    ("name", "write", "options"),
    [
        ("uids.txt", write_text, ()),
        ("uids", write_text, ()),
        ("uids.csv.gz", write_csv_gz, ("--column", "uid")),
        ("uids.tsv.zst", write_tsv_zst, ("--column", "uid")),
        ("uids.jsonl.bz2", write_ndjson_bz2, ("--column", "user._id.$oid")),
        ("uids.parquet", write_parquet, ("--column", "uid")),
        ("uids.dat", write_headless_csv, ("--format=csv", "--no-header", "--column=2", "--strip")),
    ],
)
def test_every_format_arrives_byte_for_byte(
    cli: CommandLine,
    api: Emulator,
    name: str,
    write: Callable[[Path], None],
    options: tuple[str, ...],
) -> None:
    write(cli.folder / name)
    ended = cli.push(name, *options)
    assert ended.status == 0, ended.stderr
    assert api.members() == set(UIDS)
    assert ended.document["rows"] == {"read": len(UIDS), "blank": 0, "invalid": 0, "excluded": 0}


def test_a_pipe_is_an_export(cli: CommandLine, api: Emulator) -> None:
    ended = cli.spawn_push("-", "--column", "uid", stdin=b'{"uid":"a"}\n{"uid":1}\n{"uid":1.5}\n')
    assert ended.status == 1
    assert api.members() == {"a", "1"}
    [invalid] = cli.rejects(ended.document["run"])
    assert (invalid["file"], invalid["record"]) == ("stdin", 3)


def test_several_files_globs_and_a_folder_are_one_export(cli: CommandLine, api: Emulator) -> None:
    (cli.folder / "part").mkdir()
    names = ("part/a.txt", "part/b.txt", "c1.txt", "c2.txt", "d.txt")
    planned = set.union(*(cli.write(name, 30) for name in names))
    ended = cli.push("part", "c*.txt", "d.txt")
    assert ended.status == 0
    assert api.members() == planned
    assert ended.document["rows"]["read"] == len(planned)


def test_options_that_do_not_apply_are_noted(cli: CommandLine) -> None:
    cli.write("export.txt", 3)
    ended = cli.push("export.txt", "--no-header")
    assert ended.status == 0
    assert "--no-header is ignored" in ended.stderr


def test_files_that_were_put_together_are_read_and_their_headers_are_reported(
    cli: CommandLine, api: Emulator
) -> None:
    one, two = b"\xef\xbb\xbfuid,n\na,1\n", b"\xef\xbb\xbfuid,n\nb,2\n"
    (cli.folder / "both.csv").write_bytes(one + two)
    ended = cli.push("both.csv", "--column", "uid")
    assert ended.status == 0
    assert api.members() == {"a", "b"}
    assert ended.document["rows"] == {"read": 3, "blank": 1, "invalid": 0, "excluded": 0}
    [reject] = cli.rejects(ended.document["run"])
    assert (reject["kind"], reject["record"]) == ("blank", 2)
    assert reject["reason"] == "blank (the header again)"


@pytest.mark.parametrize("data", [b"", b"uid\n"])
def test_an_export_without_a_row_is_one_mistake_with_one_message(
    cli: CommandLine, api: Emulator, data: bytes
) -> None:
    (cli.folder / "e.csv").write_bytes(data)
    message = "e.csv: nothing to send, no row holds a uid"
    for command, status, said in (
        (("push",), 2, message),
        (("push", "--dry-run"), 2, message),
        (("mirror",), 4, f"empty: {message}"),
        (("mirror", "--dry-run"), 4, f"empty: {message}"),
        (("plan",), 4, f"empty: {message}"),
    ):
        ended = cli.run(*command, "e.csv", *TARGET, "--json")
        assert (ended.status, ended.document["reason"]) == (status, said)
        assert ended.document["hint"]
    assert api.received() == 0
