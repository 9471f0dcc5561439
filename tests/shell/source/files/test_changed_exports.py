"""An export that changes while it is read: it is noticed, and nothing cut off is ever read."""

import gzip
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest

from engine.clock import Stamp
from engine.errors import ChangedWhileReadError, ExitStatus
from engine.source.files.opening import open_source
from engine.source.options import ReadingOptions
from engine.source.protocol import Source
from export_server import ExportServer
from exports import parquet

UIDS = [f"user{number:09}" for number in range(230_000)]
COLUMN = ReadingOptions(column="uid")
HOUR_NS = 3600 * 10**9


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def csv(uids: list[str]) -> bytes:
    return "".join(f"{uid}\n" for uid in ["uid", *uids]).encode()


FORMATS: dict[str, Callable[[list[str]], bytes]] = {
    "e.csv": csv,
    "e.txt": lambda uids: "".join(f"{uid}\n" for uid in uids).encode(),
    "e.ndjson": lambda uids: "".join(f'{{"uid":"{uid}"}}\n' for uid in uids).encode(),
    "e.csv.gz": lambda uids: gzip.compress(csv(uids), 1),
    "e.csv.zst": lambda uids: pa.compress(csv(uids), codec="zstd", asbytes=True),
    "e.parquet": parquet,
}


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * path.stat().st_size)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"us")


def replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    new.replace(path)


CHANGES = [truncate, overwrite, append, replace, Path.unlink]


def write(name: str, data: bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    hour_ago = path.stat().st_mtime_ns - HOUR_NS
    os.utime(path, ns=(hour_ago, hour_ago))
    return path


def drain(source: Source, change: Callable[[], object], *, after: int) -> set[str]:
    """Change something after so many blocks; return the uids read until it was reported."""
    seen: set[str] = set()
    blocks = source.blocks()
    for _ in range(after):
        seen.update(next(blocks).uids.to_pylist())
    change()
    with pytest.raises(ChangedWhileReadError) as caught:
        seen.update(uid for block in blocks for uid in block.uids.to_pylist())
    assert caught.value.exit_status is ExitStatus.USAGE
    assert caught.value.hint
    return seen


@cache
def content(name: str) -> bytes:
    return FORMATS[name](UIDS)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param(name, change, marks=() if name == "e.csv" or at == 0 else pytest.mark.slow)
        for name in FORMATS
        for at, change in enumerate(CHANGES)
    ],
)
def test_a_file_that_changes_while_it_is_read_is_reported(
    name: str, change: Callable[[Path], object]
) -> None:
    path = write(name, content(name))
    source = open_source([name], ReadingOptions(column=None if name == "e.txt" else "uid"))
    assert drain(source, lambda: change(path), after=1) < set(UIDS)


@pytest.mark.parametrize("change", [truncate, overwrite, append, replace])
def test_a_file_that_changes_between_the_look_and_the_reading_is_reported(
    change: Callable[[Path], object],
) -> None:
    path = write("e.csv", csv(UIDS[:1000]))
    source = open_source(["e.csv"], COLUMN)
    assert drain(source, lambda: change(path), after=0) == set()


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_was_read_is_checked_again_once_the_others_are(
    change: Callable[[Path], object],
) -> None:
    first = write("d/1.csv", csv(UIDS[:1000]))
    write("d/2.csv", csv(UIDS))
    source = open_source(["d"], COLUMN)
    drain(source, lambda: change(first), after=2)


def test_a_file_that_comes_to_the_export_while_it_is_read_is_reported() -> None:
    write("d/1.csv", csv(UIDS))
    for exports in (["d"], ["d/*.csv"], ["d/**"]):
        source = open_source(exports, COLUMN)
        drain(source, lambda: write("d/2.csv", csv(["late"])), after=1)
        Path("d/2.csv").unlink()
    assert open_source(["d/1.csv"], COLUMN).blocks()


def test_an_empty_file_that_is_filled_while_others_are_read_is_reported() -> None:
    write("d/1.csv", b"")
    write("d/2.csv", csv(UIDS))
    source = open_source(["d"], COLUMN)
    drain(source, lambda: write("d/1.csv", csv(["late"])), after=1)


def test_the_cut_off_record_of_a_growing_file_is_never_seen() -> None:
    path = write("d/1.csv", csv(["a1"]) + b"us")
    write("d/2.csv", csv(UIDS))
    source = open_source(["d"], COLUMN)
    assert drain(source, lambda: append(path), after=0) == set()


def test_a_file_changed_between_two_looks_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("e.csv", csv(UIDS))
    real = Path.open

    def growing(self: Path, *args: str, **kwargs: int) -> object:
        append_once()
        return real(self, *args, **kwargs)

    changes = iter([lambda: os.truncate(path, 100)])

    def append_once() -> None:
        next(changes, lambda: None)()

    monkeypatch.setattr(Path, "open", growing)
    with pytest.raises(ChangedWhileReadError):
        open_source(["e.csv"], COLUMN)


@pytest.mark.parametrize("change", [truncate, overwrite, append])
def test_a_file_that_standard_input_is_redirected_from_is_checked_too(
    change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("e.csv", csv(UIDS))
    with path.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        source = open_source(["-"], ReadingOptions(format="csv"))
        drain(source, lambda: change(path), after=1)


def test_what_passes_through_a_pipe_is_released_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    uids = [
        f"a-long-uid-{number}" for number in range(60)
    ]  # More than the inspection of its start.
    os.write(writing, "".join(f"{uid}\n" for uid in uids).encode())
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb"):
        monkeypatch.setattr(sys, "stdin", stdin)
        source = open_source(["-"], ReadingOptions(format="text"))
        assert next(source.blocks()).uids.to_pylist() == uids


# A last line without an end


class Watched:
    """A clock that only sleeping moves, and what happens meanwhile."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.slept: list[float] = []
        self.utc_ns = 0
        self._meanwhile = meanwhile

    def now(self) -> float:
        return 100.0 + sum(self.slept)

    def stamp(self) -> Stamp:
        return Stamp("", 0, self.utc_ns)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._meanwhile()

    def open(self, *exports: str, age: float) -> Source:
        for export in exports:
            ns = round((1e9 - age) * 1e9)
            os.utime(export, ns=(ns, ns))
        self.utc_ns = 10**18
        return open_source(exports, ReadingOptions(), clock=self, sleep=self.sleep)


def uids(source: Source) -> list[str]:
    return [uid for block in source.blocks() for uid in block.uids.to_pylist()]


@pytest.mark.parametrize(
    ("name", "data", "age", "waits"),
    [
        ("e.csv", b"uid\na1", 10, True),
        ("e.txt", b"a1", 10, True),
        ("e.ndjson", b'{"uid":"a1"}', 10, True),
        ("e.csv.gz", gzip.compress(b"uid\na1", mtime=0), 10, True),
        ("e.csv", b"uid\na1", -5, True),  # as a server's clock may have it
        ("e.csv", b"uid\na1", 61, False),
        ("e.csv", b"uid\na1\n", 10, False),
        ("e.txt", b"a1\r\n", 10, False),
        ("e.parquet", parquet(["a1"]), 10, False),
    ],
)
def test_a_last_line_without_an_end_in_a_young_file_is_looked_at_again(
    name: str,
    data: bytes,
    age: float,
    waits: bool,  # noqa: FBT001 - a table's column
) -> None:
    write(name, data)
    watched = Watched()
    source = watched.open(name, age=age)
    assert uids(source) == ["a1"]
    assert watched.slept == ([3.0] if waits else [])
    assert uids(source) == ["a1"]
    assert len(watched.slept) == waits


@pytest.mark.parametrize("change", CHANGES)
def test_a_young_file_that_changes_meanwhile_is_reported(change: Callable[[Path], object]) -> None:
    path = write("e.csv", b"uid\na1\nus")
    watched = Watched(lambda: change(path))
    drain(watched.open("e.csv", age=1), lambda: None, after=0)


def test_young_files_are_waited_for_together() -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        write(name, name.encode())
    watched = Watched()
    assert uids(watched.open("a.txt", "b.txt", "c.txt", age=1)) == ["a.txt", "b.txt", "c.txt"]
    assert watched.slept == [3.0]


# Files behind URLs


def new_version(server: ExportServer) -> None:
    server.etag = '"v2"'


def newer(server: ExportServer) -> None:
    server.etag, server.modified = None, "Wed, 25 Nov 2026 02:10:00 GMT"


def shorter(server: ExportServer) -> None:
    server.etag = server.modified = None
    server.content = server.content[: len(server.content) // 3]


@pytest.fixture
def server() -> Iterator[ExportServer]:
    server = ExportServer(csv([f"user{number:020}" for number in range(250_000)]))
    with server.serving() as host:
        server.url = f"http://{host}/e.csv"
        yield server


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("change", [new_version, newer, shorter])
def test_a_remote_file_that_changes_while_it_is_read_is_reported(
    server: ExportServer,
    change: Callable[[ExportServer], None],
    ranges: bool,  # noqa: FBT001 - a table's column
) -> None:
    server.knows_ranges = ranges
    if change is not new_version:
        server.etag = None
    if change is shorter:
        server.modified = None
    source = open_source([server.url], COLUMN)
    drain(source, lambda: change(server), after=1)
