"""Files, globs, folders, pipes and compression: what `open_source` finds, says and refuses."""

import bz2
import gzip
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import (
    CohortSyncError,
    EmptyExportError,
    ExitStatus,
    MissingExportError,
    SourceError,
    UsageError,
)
from engine.source.files.opening import open_source
from engine.source.options import ReadingOptions
from engine.source.protocol import HasFiles, MeasuresReading, Source, is_rereadable

PLAIN = ReadingOptions()


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, data: bytes | str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return name


def uids(source: Source) -> list[str]:
    return [uid for block in source.blocks() for uid in block.uids.to_pylist()]


def read(*exports: str, options: ReadingOptions = PLAIN) -> list[str]:
    return uids(open_source(exports, options))


def refused(*exports: str, options: ReadingOptions = PLAIN) -> CohortSyncError:
    with pytest.raises((SourceError, UsageError)) as caught:
        read(*exports, options=options)
    assert caught.value.exit_status is ExitStatus.USAGE
    return caught.value


def test_a_source_shows_what_it_reads() -> None:
    source = open_source([write("a.csv", "uid\nx\n"), write("b.txt", "y\n")], PLAIN)
    assert [(each.name, each.bytes) for each in source.files] == [("a.csv", 6), ("b.txt", 2)]
    assert source.notes == ()
    assert source.identity == {
        "files": [
            {
                "file": str(Path("a.csv").absolute()),
                "format": "csv",
                "column": "uid",
                "header": True,
            },
            {"file": str(Path("b.txt").absolute()), "format": "text"},
        ],
        "strip": False,
    }
    assert orjson.loads(orjson.dumps(source.identity)) == source.identity


def test_blocks_can_be_read_again_and_number_the_records_of_each_file() -> None:
    source = open_source([write("a.txt", "x\ny\n"), write("b.txt", "\nz\n")], PLAIN)
    first, second = ([*source.blocks()], [*source.blocks()])
    assert [(b.file, b.first_record, b.records) for b in first] == [
        ("a.txt", 1, 2),
        ("b.txt", 1, 2),
    ]
    assert [block.uids for block in first] == [block.uids for block in second]


def test_records_are_numbered_on_from_block_to_block() -> None:
    source = open_source([write("a.txt", "".join(f"{n:030}\n" for n in range(100_000)))], PLAIN)
    blocks = list(source.blocks())
    assert len(blocks) > 2
    ends = [block.first_record + block.records for block in blocks]
    assert [block.first_record for block in blocks] == [1, *ends[:-1]]
    assert ends[-1] == 100_001


@pytest.mark.parametrize(
    ("options", "same"),
    [
        (ReadingOptions(column="uid"), True),
        (ReadingOptions(format="csv"), True),
        (ReadingOptions(strip=True), False),
        (ReadingOptions(header=False), False),
        (ReadingOptions(format="text"), False),
    ],
)
def test_identity_is_equal_exactly_when_the_reading_is(options: ReadingOptions, same: bool) -> None:  # noqa: FBT001 - a table's column
    write("a.csv", "uid\nx\n")
    plain = open_source(["a.csv"], PLAIN).identity
    assert (open_source(["./a.csv"], options).identity == plain) is same


# Where exports stand


def test_a_glob_is_expanded_in_order_and_reads_subfolders() -> None:
    for name in ("d/2.txt", "d/10.txt", "d/e/1.txt", "d/x.csv"):
        write(name, name + "\n")
    assert read("d/*.txt") == ["d/10.txt", "d/2.txt"]
    assert read("d/**/*.txt") == ["d/10.txt", "d/2.txt", "d/e/1.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file() -> None:
    write("a1.txt", "no\n")
    assert read(write("a[1].txt", "yes\n")) == ["yes"]


def test_a_folder_stands_for_its_files_and_those_below_by_name() -> None:
    for name in ("d/b.txt", "d/a/2.txt", "d/_SUCCESS", "d/.b.txt.crc", "d/.git/x.txt"):
        write(name, name + "\n")
    os.mkfifo("d/pipe")
    Path("d/link").symlink_to("a")
    source = open_source(["d"], PLAIN)
    assert uids(source) == ["d/a/2.txt", "d/b.txt"]
    assert source.notes == ("d: passed over 4 names (.*, _* and linked folders)",)


def test_a_link_to_a_file_is_read_and_one_that_leads_nowhere_is_refused() -> None:
    write("data.txt", "x\n")
    Path("d").mkdir()
    Path("d/good.txt").symlink_to("../data.txt")
    assert read("d") == ["x"]
    Path("d/bad.txt").symlink_to("../nothing")
    assert refused("d").message == "d/bad.txt: a broken link"


def test_a_file_named_twice_is_refused() -> None:
    write("d/a.txt", "x\n")
    assert refused("d", "d/../d/a.txt").message == "d/../d/a.txt: named twice"


def test_a_name_that_no_ledger_can_hold_is_refused() -> None:
    Path(os.fsdecode(b"d\xff.txt")).write_text("x\n")
    assert refused("*.txt").message == "d\\udcff.txt: the name is not UTF-8"


@pytest.mark.parametrize(
    ("export", "message", "kind"),
    [
        ("nothing.csv", "nothing.csv: no such file", MissingExportError),
        ("no*.csv", "no*.csv: no file matches", MissingExportError),
        ("none/no*.csv", "none/no*.csv: no file matches", MissingExportError),
        ("folder", "folder: the folder holds no files", MissingExportError),
        ("link.csv", "link.csv: a broken link", MissingExportError),
        ("a.txt/b.txt", "a.txt/b.txt: cannot be read (Not a directory)", SourceError),
    ],
)
def test_what_is_not_there_is_named(export: str, message: str, kind: type[SourceError]) -> None:
    Path("folder").mkdir()
    Path("link.csv").symlink_to("nothing")
    write("a.txt", "x\n")
    error = refused(export)
    assert (error.message, type(error), error.exit_status) == (message, kind, ExitStatus.USAGE)


def test_an_unreadable_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.txt", "x\n")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert refused("a.txt").message == "a.txt: cannot be read (Permission denied)"


def test_a_file_that_goes_away_is_named() -> None:
    source = open_source([write("a.txt", "x\n")], PLAIN)
    Path("a.txt").unlink()
    with pytest.raises(MissingExportError, match=r"a\.txt: no such file"):
        list(source.blocks())


# Pipes


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Feed standard input from a real pipe, in pieces of a few bytes."""
    reading, writing = os.pipe()
    threads: list[threading.Thread] = []

    def feed(data: bytes) -> None:
        def write_all() -> None:
            with os.fdopen(writing, "wb", buffering=0) as file:
                for start in range(0, len(data), 7):
                    file.write(data[start : start + 7])

        threads.append(threading.Thread(target=write_all))
        threads[0].start()

    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield feed
        threads[0].join()


def test_a_source_shows_what_each_of_its_files_is() -> None:
    for name, seconds in (("a.txt", 20), ("b.txt", 10), ("c.txt", 30)):
        os.utime(write(name, "a\n"), (seconds, seconds))
    write("d.txt", "")
    os.utime("d.txt", (40, 40))
    source = open_source(["a.txt", "b.txt", "c.txt", "d.txt"], PLAIN)
    list(source.blocks())
    found = [(file.name, file.bytes, file.written_utc_ns, file.uids) for file in source.files]
    assert found == [
        ("a.txt", 2, 20 * 10**9, 1),
        ("b.txt", 2, 10 * 10**9, 1),
        ("c.txt", 2, 30 * 10**9, 1),
        ("d.txt", 0, 40 * 10**9, 0),
    ]


def test_standard_input_is_read_once(pipe: Callable[[bytes], None]) -> None:
    pipe(b"uid\n" + b"".join(b"u%d\n" % n for n in range(2000)))
    source = open_source(["-"], ReadingOptions(format="csv"))
    assert [(each.name, each.bytes) for each in source.files] == [("stdin", None)]
    assert source.identity["files"][0]["file"] == "-"
    assert uids(source) == [f"u{n}" for n in range(2000)]
    with pytest.raises(SourceError, match="can be read only once"):
        list(source.blocks())


def test_standard_input_may_be_compressed(pipe: Callable[[bytes], None]) -> None:
    pipe(gzip.compress(b"a\nb\n"))
    assert read("-") == ["a", "b"]


def test_standard_input_may_be_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert read("-") == ["a", "b"]


def test_closed_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert refused("-").message == "standard input is closed"


def test_a_named_pipe_is_read_once() -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(b"a\nb\n",))
    writer.start()
    assert read("pipe") == ["a", "b"]
    writer.join()


@pytest.mark.parametrize("size", [3, 50_000])
def test_parquet_from_a_pipe_is_read_from_a_copy(pipe: Callable[[bytes], None], size: int) -> None:
    written = io.BytesIO()
    pq.write_table(pa.table({"uid": [f"u{n:024}" for n in range(size)]}), written)
    pipe(written.getvalue())
    assert read("-") == [f"u{n:024}" for n in range(size)]


def test_a_pipe_that_holds_broken_parquet_is_named(pipe: Callable[[bytes], None]) -> None:
    pipe(b"PAR1\x15\x04" + b"\0" * 40)
    assert refused("-").message.startswith("stdin: cannot be read (")


@pytest.mark.parametrize("rows", [1000, 150_000])
def test_a_pipe_that_is_kept_is_read_again(
    pipe: Callable[[bytes], None], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.source.files.locations._IN_MEMORY", 1 << 20)
    pipe(b"uid\n" + b"".join(b"u%09d\n" % n for n in range(rows)))
    source = open_source(["-"], ReadingOptions(format="csv"), keep_pipes=True)
    half_read = source.blocks()
    next(half_read)
    expected = [f"u{n:09}" for n in range(rows)]
    assert uids(source) == expected
    assert uids(source) == expected


@pytest.mark.parametrize("keep_pipes", [False, True])
def test_a_source_says_what_it_is_able_to_do(
    pipe: Callable[[bytes], None],
    *,
    keep_pipes: bool,
) -> None:
    pipe(b"uid\n")
    piped = open_source(["-"], ReadingOptions(format="text"), keep_pipes=keep_pipes)
    stored = open_source([write("a.txt", "x\n")], PLAIN)
    for source in (piped, stored):
        assert isinstance(source, HasFiles)
        assert isinstance(source, MeasuresReading)
    assert is_rereadable(piped) is keep_pipes
    assert is_rereadable(stored)
    assert uids(piped) == ["uid"]
    assert uids(stored) == ["x"]
    assert (piped.share_read, stored.share_read) == (None, 1.0)


# Compression

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_are_read_through_all_their_members(suffix: str) -> None:
    compress = COMPRESS[suffix]
    assert read(write(f"a.csv.{suffix}", compress(b"uid\na\n") + compress(b"b\n"))) == ["a", "b"]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compression_is_known_by_content_when_the_suffix_lies(suffix: str) -> None:
    assert read(write("a.csv", COMPRESS[suffix](b"uid\na\n"))) == ["a"]
    assert read(write(f"b.CSV.{suffix}", b"uid\na\n")) == ["a"]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("members", [1, 2])
def test_a_truncated_file_is_an_error_and_never_an_early_end(suffix: str, members: int) -> None:
    data = os.urandom(1_500_000).hex().encode()
    lines = b"".join(data[at : at + 24] + b"\n" for at in range(0, len(data), 24))
    whole = COMPRESS[suffix](lines)
    write(f"a.txt.{suffix}", whole * (members - 1) + whole[:-20])
    source = open_source([f"a.txt.{suffix}"], PLAIN)
    blocks = source.blocks()
    assert len(next(blocks).uids) > 10_000
    with pytest.raises(SourceError) as caught:
        list(blocks)
    assert caught.value.message == f"a.txt.{suffix}: cannot be read (Truncated compressed stream)"


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_short_truncated_file_is_known_before_the_first_block(suffix: str) -> None:
    write("a.txt", COMPRESS[suffix](b"abc\n" * 5)[:-6])
    with pytest.raises(SourceError, match="Truncated"):
        open_source(["a.txt"], PLAIN)


@pytest.mark.parametrize("suffix", ["gz", "bz2"])
@pytest.mark.parametrize("zeros", [1, 9, 512, 300_000])
def test_zero_bytes_behind_compressed_data_are_padding(suffix: str, zeros: int) -> None:
    member = COMPRESS[suffix](b"a\n")
    assert read(write(f"a.txt.{suffix}", member + bytes(zeros))) == ["a"]
    assert read(write(f"b.txt.{suffix}", member + bytes(zeros) + member)) == ["a", "a"]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("behind", [b"what is this?", b"x", bytes(600) + b"x"])
def test_other_bytes_behind_compressed_data_are_an_error(suffix: str, behind: bytes) -> None:
    write(f"a.txt.{suffix}", COMPRESS[suffix](b"abc\n") + behind)
    assert refused(f"a.txt.{suffix}").message.startswith(f"a.txt.{suffix}: cannot be read (")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_zero_bytes_in_the_place_of_the_end_are_no_padding(suffix: str) -> None:
    data = COMPRESS[suffix](b"abc\n" * 1000)
    write(f"a.txt.{suffix}", data[:-5] + bytes(600))
    assert refused(f"a.txt.{suffix}").message.startswith(f"a.txt.{suffix}: cannot be read (")


def test_a_frame_to_be_passed_over_begins_zstd_too() -> None:
    frame = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert read(write("a.txt.zst", frame + COMPRESS["zst"](b"a\n"))) == ["a"]


def test_a_damaged_file_is_named() -> None:
    data = bytearray(gzip.compress(b"abc\n" * 99))
    data[20] ^= 255
    write("a.txt.gz", bytes(data))
    assert refused("a.txt.gz").message.startswith("a.txt.gz: cannot be read (Error -3")


# Nothing to send


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a", "a.ndjson", "a.tsv"])
@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_known_before_the_first_block(name: str, data: bytes) -> None:
    write(name, data)
    with pytest.raises(SourceError, match="nothing to send"):
        open_source([name], PLAIN)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ("uid\n\n  \n", " (2 rows read: 2 blank)"),
        ('uid\n"x\n\n', " (2 rows read: 1 broken quote, 1 blank)"),
    ],
)
def test_an_export_without_a_uid_is_known_at_its_end(data: str, rows: str) -> None:
    source = open_source([write("a.csv", data)], PLAIN)
    with pytest.raises(SourceError) as caught:
        list(source.blocks())
    assert caught.value.message == f"a.csv: nothing to send, no row holds a uid{rows}"


@pytest.mark.parametrize(
    "data", [b"", b"\xef\xbb\xbf", b"uid\n", b"uid", b"sep=,\r\nuid\r\n", b"x" * 9000 + b"\n"]
)
def test_a_header_without_a_row_is_as_empty_as_no_byte(data: bytes) -> None:
    write("a.csv", data)
    write("b.csv.gz", gzip.compress(data))
    for name in ("a.csv", "b.csv.gz"):
        with pytest.raises(EmptyExportError) as caught:
            open_source([name], PLAIN)
        assert caught.value.message == f"{name}: nothing to send, no row holds a uid"
        assert caught.value.hint == "check what writes the export"
    write("c.csv", "uid\nc\n")
    assert read("a.csv", "b.csv.gz", "c.csv") == ["c"]


def test_a_schema_without_a_row_is_as_empty_as_no_byte() -> None:
    pq.write_table(pa.table({"uid": pa.array([], pa.string())}), "a.parquet")
    with pytest.raises(EmptyExportError):
        open_source(["a.parquet"], PLAIN)


def test_an_export_in_another_encoding_has_a_hint_at_it() -> None:
    write("a.txt", "Jürgen\nJosé\n".encode("latin-1"))
    assert "iconv" in (refused("a.txt").hint or "")


def test_one_empty_file_among_others_does_not_matter() -> None:
    write("a.csv", "")
    write("b.txt", "x\n")
    write("c.csv.gz", gzip.compress(b""))
    source = open_source(["a.csv", "b.txt", "c.csv.gz"], PLAIN)
    assert uids(source) == ["x"]
    assert source.notes == ("a.csv: is empty", "c.csv.gz: is empty")
    assert refused("a.csv", "c.csv.gz").message.startswith("a.csv and 1 more: nothing to send")


WHITE_SPACE = [
    chr(code) for code in range(0x110000) if chr(code).isspace() and code not in {10, 13}
]
INVISIBLE = ["\u200b", "\u2060", "\u180e", "\u200d", "\u2800"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.ndjson", "a.parquet"])
def test_white_space_is_what_python_strips(name: str) -> None:
    """A uid of nothing else is blank; what only looks so is part of a uid."""
    given = [*WHITE_SPACE, *(f"{space}a{space}" for space in WHITE_SPACE), *INVISIBLE]
    if name == "a.parquet":
        pq.write_table(pa.table({"uid": given}), name)
    elif name == "a.ndjson":
        write(name, "".join(orjson.dumps({"uid": uid}).decode() + "\n" for uid in given))
    else:
        header = "uid\n" if name == "a.csv" else ""
        write(name, header + "".join(f"{uid}\n" for uid in given).replace("\0", ""))
    kept = given[len(WHITE_SPACE) :]
    assert read(name) == kept
    assert read(name, options=ReadingOptions(strip=True)) == [uid.strip() for uid in kept]
