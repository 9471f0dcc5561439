"""Files that are read together are of one kind; what belongs to a file is passed over."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import SourceError
from engine.source.files.file_groups import refuse_mixture
from engine.source.files.opening import open_source
from engine.source.options import ReadingOptions

CSV = b"user_id,c\na1,x\n"
STALE = b"user_id,c\nz9,x\n"
TEXT = b"a1\n"
NDJSON = b'{"user_id":"a1"}\n'
BY_COLUMN = ReadingOptions(column="user_id")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(files: Mapping[str, bytes | None]) -> None:
    """Write files into the folder `d`; None is Parquet."""
    for name, data in files.items():
        path = Path("d") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            pq.write_table(pa.table({"user_id": ["p1"]}), path)
        else:
            path.write_bytes(data)


def read(*exports: str, options: ReadingOptions = BY_COLUMN) -> list[str]:
    source = open_source(exports, options)
    return [uid for block in source.blocks() for uid in block.uids.to_pylist()]


BELONGING = ["e.csv.md5", "e.csv.MD5", "e.csv.sha256", "e.csv.sha256sum", "e.csv.sha1", "e.csv.crc"]
BELONGING += ["e.csv.asc", "e.csv.sig", "e.csv.sha256.asc", "e.csv~", "e.csv.~1~", "e.csv.bak"]
BELONGING += ["e.csv.orig", "e.csv.old", "e.csv.swp", "#e.csv#"]
BELONGING += ["e.csv.1", "e.csv.12", "e.csv.001", "e.csv.1.gz", "e.csv.bak.gz"]


def expanded() -> list[str]:
    """Return what a shell makes of `d/*`: each file is an argument of its own."""
    return sorted(str(path) for path in Path("d").iterdir())


@pytest.mark.parametrize("name", BELONGING)
def test_what_belongs_to_a_file_is_passed_over_with_a_note(name: str) -> None:
    write({"e.csv": CSV, name: STALE})
    if name == "e.csv.sha256.asc":
        write({"e.csv.sha256": b"0" * 64 + b"  e.csv\n"})
    for exports in (["d"], ["d/"], ["d/*"], ["d/*e.csv*"], expanded()):
        source = open_source(exports, BY_COLUMN)
        assert [uid for block in source.blocks() for uid in block.uids.to_pylist()] == ["a1"]
        [note] = source.notes
        assert note.startswith("passed over d/")
        assert note.endswith("checksums, signatures or backups of other files")


def test_what_belongs_to_a_compressed_file_is_passed_over_too() -> None:
    write({"e.csv.gz": gzip.compress(CSV), "e.csv.md5": b"x", "e.csv.gz.sig": b"\0\x01"})
    write({"below/f.csv.gz": gzip.compress(CSV), "below/f.csv.gz.sha512": b"x"})
    assert read("d") == ["a1", "a1"]


MIXTURES: Mapping[str, tuple[Mapping[str, bytes | None], str, str]] = {
    "a read-me file": ({"e.csv": CSV, "README.txt": b"what this is\n"}, "README.txt", "'d/*.csv'"),
    "a read-me file without a suffix": (
        {"e.csv": CSV, "README": b"hello\n"},
        "README",
        "'d/*.csv'",
    ),
    "a read-me file beside text": (
        {"e.txt": TEXT, "readme.md": b"hello\n"},
        "readme.md",
        "'d/*.txt'",
    ),
    "a license": ({"e.txt": TEXT, "LICENSE": b"free\n"}, "LICENSE", "'d/*.txt'"),
    "a log": ({"e.csv": CSV, "export.log": b"2026-11-26 done\n"}, "export.log", "'d/*.csv'"),
    "a log beside text": ({"e.txt": TEXT, "export.log": b"done\n"}, "export.log", "'d/*.txt'"),
    "a list of checksums": (
        {"e.csv": CSV, "SHA256SUMS": b"00  e.csv\n"},
        "SHA256SUMS",
        "'d/*.csv'",
    ),
    "a checksum of no file here": ({"e.csv": CSV, "f.csv.md5": b"00\n"}, "f.csv.md5", "'d/*.csv'"),
    "a backup of no file here": ({"e.csv": CSV, "f.txt~": TEXT}, "f.txt~", "'d/*.csv'"),
    "text beside ndjson": (
        {"e.ndjson": NDJSON, "f.txt": TEXT},
        "f.txt",
        "'d/*.ndjson' or 'd/*.txt'",
    ),
    "text beside Parquet": (
        {"e.parquet": None, "f.txt": TEXT},
        "f.txt",
        "'d/*.parquet' or 'd/*.txt'",
    ),
    "csv and Parquet": ({"e.csv": CSV, "e.parquet": None}, "e.", "'d/*.csv' or 'd/*.parquet'"),
    "csv and tsv": ({"e.csv": CSV, "f.tsv": b"user_id\na2\n"}, "f.tsv", "'d/*.csv' or 'd/*.tsv'"),
    "csv and ndjson by content": (
        {"e.csv": CSV, "manifest.json": NDJSON},
        "manifest.json",
        "'d/*.csv' or 'd/*.json'",
    ),
    "a script": ({"e.csv": CSV, "export.sh": b"#!/bin/sh\n"}, "export.sh", "'d/*.csv'"),
    "an image": ({"e.csv": CSV, "chart.png": b"\x89PNG\r\n\x1a\n\0"}, "chart.png", "'d/*.csv'"),
    "a schema": ({"e.csv": CSV, "e.sql": b"CREATE TABLE users (id text);"}, "e.sql", "'d/*.csv'"),
    "a file being written": ({"e.csv": CSV, "f.csv.part": STALE}, "f.csv.part", "'d/*.csv'"),
    "a file being written ": ({"e.txt": TEXT, "f.txt.tmp": TEXT}, "f.txt.tmp", "'d/*.txt'"),
    "a temporary file": ({"e.csv": CSV, "f.csv.tmp123": STALE}, "f.csv.tmp123", "'d/*.csv'"),
    "a temporary file ": ({"e.csv": CSV, "f.csv.TEMP-1.b": STALE}, "f.csv.TEMP-1.b", "'d/*.csv'"),
    "a compressed one": (
        {"e.csv": CSV, "f.csv.part.gz": gzip.compress(STALE)},
        "f.csv.part.gz",
        "'d/*.csv'",
    ),
    "below": (
        {"x/e.csv": CSV, "y/f.csv": CSV, "z.txt": TEXT},
        "z.txt",
        "'d/**/*.csv' or 'd/**/*.txt'",
    ),
    "compressed": (
        {"e.csv.gz": gzip.compress(CSV), "f.txt": TEXT},
        "f.txt",
        "'d/*.csv.gz' or 'd/*.txt'",
    ),
    "twice": (
        {"e.csv": CSV, "e.csv.gz": gzip.compress(STALE)},
        "e.csv.gz",
        "'d/*.csv' or 'd/*.csv.gz'",
    ),
    "upper case": ({"E.CSV": CSV, "f.txt": TEXT}, "f.txt", "'d/*.CSV' or 'd/*.txt'"),
    "brackets": (
        {"[1]/e.csv": CSV, "[1]/f.txt": TEXT},
        "[1]/f.txt",
        "'d/[[]1]/*.csv' or 'd/[[]1]/*.txt'",
    ),
}


@pytest.mark.parametrize("what", MIXTURES)
def test_a_mixture_is_refused_by_name_with_the_glob_to_use(what: str) -> None:
    files, odd, globs = MIXTURES[what]
    write(files)
    first = globs.split("'")[1]
    options = ReadingOptions() if ".txt" in first else BY_COLUMN
    with pytest.raises(SourceError) as caught:
        open_source(["d"], options)
    assert caught.value.message.startswith(f"d/{odd}")
    assert caught.value.hint == f"name one kind: {globs}"
    assert read(first, options=options)


FORMATS_DIFFER = {"text beside ndjson", "text beside Parquet", "csv and Parquet", "csv and tsv"}
FORMATS_DIFFER |= {"csv and ndjson by content", "compressed", "upper case"}


@pytest.mark.parametrize("what", [what for what in MIXTURES if what not in {"below", "brackets"}])
def test_files_that_a_shell_names_are_refused_but_for_different_formats(what: str) -> None:
    files, odd, globs = MIXTURES[what]
    write(files)
    options = ReadingOptions() if ".txt" in globs.split("'")[1] else BY_COLUMN
    if what in FORMATS_DIFFER:
        for name in files:  # no --column can be asked for where text is among them
            if ".csv" in name.lower():
                data = b"user_id\na1\n"
                write({name: gzip.compress(data) if name.endswith(".gz") else data})
        assert len(read(*expanded(), options=ReadingOptions())) == len(files)
        return
    with pytest.raises(SourceError) as caught:
        open_source(expanded(), options)
    assert caught.value.message.startswith(f"d/{odd}")
    assert caught.value.hint == f"name one kind: {globs}"


@pytest.mark.parametrize(
    "name", ["README.txt", "x.log", "e.csv~", "e.csv.1", "e.csv.part", "notes"]
)
def test_a_file_that_is_named_alone_is_read_whatever_its_name(name: str) -> None:
    write({name: b"user_id\na1\n", "other.csv": CSV})
    assert read(f"d/{name}", options=ReadingOptions(format="csv")) == ["a1"]
    assert read(f"d/{name}", "d/o*.csv", options=ReadingOptions(column="user_id", format="csv"))


@pytest.mark.parametrize(
    ("files", "odd", "hint"),
    [
        ({"a.txt": TEXT, "README.txt": b"see wiki\n"}, "README.txt", "remove"),
        ({"a.txt.gz": gzip.compress(TEXT), "README.txt.gz": b"x"}, "README.txt.gz", "remove"),
        ({"a": TEXT, "README": b"see wiki\n"}, "README", "remove"),
        ({"a.dat": CSV, "b.dat": NDJSON}, "b.dat", "name the files one by one"),
        (
            {"a.csv": CSV, "b.txt": TEXT, "README.txt": b"x\n"},
            "README.txt",
            "name one kind: 'd/*.csv'",
        ),
    ],
)
def test_an_odd_file_that_a_glob_would_match_too_is_to_be_removed(
    files: Mapping[str, bytes], odd: str, hint: str
) -> None:
    write(files)
    if hint == "remove":
        hint = f"remove or rename d/{odd}, or name the others one by one"
    options = BY_COLUMN if CSV in files.values() else ReadingOptions()
    with pytest.raises(SourceError) as caught:
        open_source(["d"], options)
    assert caught.value.message.startswith(f"d/{odd}" if "one kind" not in hint else "d/")
    assert caught.value.hint == hint


def test_what_is_passed_over_among_named_files_is_so_when_they_are_read_again() -> None:
    write({"e.csv": CSV, "e.csv~": STALE, "below/f.csv": CSV})
    source = open_source(["d/e.csv", "d/below", "d/e.csv~"], BY_COLUMN)
    assert [file.name for file in source.files] == ["d/e.csv", "d/below/f.csv"]
    assert [uid for block in source.blocks() for uid in block.uids.to_pylist()] == ["a1", "a1"]


def test_a_format_that_is_given_lets_no_mixture_in() -> None:
    write({"e.csv": CSV, "notes": b"user_id,c\nb1,y\n"})
    with pytest.raises(SourceError, match=r"d/notes: is a file of unknown format, and .* is csv"):
        open_source(["d"], ReadingOptions(column="user_id", format="csv"))


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"1": TEXT, "2": TEXT, "x.dat": TEXT}, ReadingOptions()),
        ({"1.txt": TEXT, "2.list": TEXT, "3.txt.gz": gzip.compress(TEXT)}, ReadingOptions()),
        ({"1.csv": CSV, "2": CSV, "3.csv.gz": gzip.compress(CSV)}, BY_COLUMN),
        ({"1.ndjson": NDJSON, "2.json": NDJSON, "3.jsonl": NDJSON}, BY_COLUMN),
        ({"1.parquet": None, "2": None}, BY_COLUMN),
        ({"1": b"user_id\na\n", "2": b"user_id\nb\n"}, ReadingOptions(format="csv")),
        ({"1.csv": CSV, "README.txt": b"", "_SUCCESS": b"x", "done": b""}, BY_COLUMN),
        ({"README.txt": TEXT, "LICENSE": TEXT}, ReadingOptions()),
        ({"ids": TEXT, "ids.1": TEXT, "ids.2026-11-26": TEXT}, ReadingOptions()),
        ({"ids.csv.001": CSV, "ids.csv.002": CSV}, BY_COLUMN),
        ({"ids.csv": CSV, "ids.csv.2026-11-26": CSV, "ids.csv.20261126": CSV}, BY_COLUMN),
        ({"part-00000-1f.c000.csv": CSV, "part-00001-1f.c000.csv": CSV}, BY_COLUMN),
        ({"f.temp.csv": CSV, "tmp.csv": CSV}, BY_COLUMN),
    ],
)
def test_files_of_one_kind_are_read_whatever_their_names(
    files: Mapping[str, bytes | None], options: ReadingOptions
) -> None:
    write(files)
    count = sum(data != b"" and name != "_SUCCESS" for name, data in files.items())
    assert len(read("d", options=options)) == count
    named = [name for name in expanded() if name != "d/_SUCCESS"]
    assert len(read(*named, options=options)) == count


def test_files_that_are_named_one_by_one_may_be_of_different_kinds() -> None:
    write({"e.csv": b"user_id\na1\n", "f.ndjson": NDJSON, "g.parquet": None, "h.txt": b"n1\n"})
    names = ("d/e.csv", "d/f.ndjson", "d/g.parquet", "d/h.txt")
    assert read(*names, options=ReadingOptions()) == ["a1", "a1", "p1", "n1"]
    assert read("d/*.csv", "d/*.ndjson", "d/*.parquet") == ["a1", "a1", "p1"]


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["e.csv", "f.txt"], "'*.csv' or '*.txt'"),
        (["/e.csv", "/f.txt"], "'/*.csv' or '/*.txt'"),
        (["a/e.csv", "b/f.txt"], "'**/*.csv' or '**/*.txt'"),
        (["/a/e.csv", "/b/f.txt"], "'/**/*.csv' or '/**/*.txt'"),
        (
            ["s3://b/x/1/e.csv.gz", "s3://b/x/f.txt"],
            "'s3://b/x/**/*.csv.gz' or 's3://b/x/**/*.txt'",
        ),
    ],
)
def test_the_glob_to_use_stands_where_the_files_are(names: list[str], hint: str) -> None:
    with pytest.raises(SourceError) as caught:
        refuse_mixture(dict(zip(names, ("csv", "text"), strict=True)))
    assert caught.value.hint == f"name one kind: {hint}"


def test_remote_files_that_are_named_are_judged_together_too() -> None:
    files = fsspec.filesystem("memory")
    for name, data in {"e.csv": CSV, "e.csv.1": STALE, "x.log": b"done\n"}.items():
        files.pipe(f"/kinds/{name}", data)
    names = [f"memory://kinds/{name}" for name in ("e.csv", "e.csv.1", "x.log")]
    assert read(*names[:2]) == ["a1"]
    with pytest.raises(SourceError, match=r"memory://kinds/x\.log: is .* is csv"):
        open_source(names, BY_COLUMN)
