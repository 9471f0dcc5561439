"""Where exports stand: files, globs, folders and pipes on this machine."""

import glob
import io
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.errors import SourceError, UsageError
from engine.source.folders import belongings
from engine.source.lines import OpenFile
from engine.source.remote import find_remote, is_url
from engine.source.tape import Tape

_FILE_URL = "file://"


class Place(Protocol):
    """One file of an export."""

    @property
    def name(self) -> str:
        """How the file is shown to people, with no credential in it."""

    @property
    def address(self) -> str:
        """What tells the file from every other."""

    @property
    def size(self) -> int | None:
        """Bytes as stored; None where unknown."""

    @property
    def written_utc_ns(self) -> int | None:
        """When it was last written, in ns since 1970; None where unknown."""

    def open(self) -> OpenFile:
        """Open the file at its start, unbuffered. Raises what the file system raises."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file."""

    name: str
    address: str
    size: int | None
    written_utc_ns: int | None

    def open(self) -> OpenFile:
        """Open the file."""
        return Path(self.address).open("rb", buffering=0)


class Pipe:
    """Standard input, or a named pipe: bytes that pass once.

    The first `open` is for a look at the start; the second one sees that start again and goes on.
    Once `is_kept` is set, all that passes is kept, and it can be opened ever again.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.size = None
        self.written_utc_ns = None
        self.is_kept = False
        self._tape: Tape | None = None
        self._opened = 0

    def open(self) -> OpenFile:
        """Open the pipe. Raises `SourceError` if what has passed was not kept."""
        self._opened += 1
        if self._tape is None:
            is_stdin = self.address == "-"
            self._tape = Tape(_standard_input() if is_stdin else _unbuffered(self.address))
        if self.is_kept or self._opened == 1:
            return self._tape.played(is_taping=True)
        if self._opened == 2:  # noqa: PLR2004 - the look was the first
            return self._tape.played(is_taping=False)
        raise SourceError(f"{self.name}: a pipe can be read only once")


def _unbuffered(path: str) -> OpenFile:
    return Path(path).open("rb", buffering=0)


def _standard_input() -> OpenFile:
    """Return standard input, unbuffered: a thread stuck in a buffered read blocks the exit."""
    try:
        os.set_blocking(sys.stdin.fileno(), True)  # else a pause would look like the end
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except io.UnsupportedOperation:  # a test's stand-in
        return sys.stdin.buffer
    except (AttributeError, ValueError):  # None or closed, when started without one
        raise SourceError("standard input is closed") from None


def find_places(exports: Iterable[str]) -> tuple[list[Place], tuple[str, ...], list[int]]:
    """Expand what the command line names into files, in that order.

    Returns the files, notes on them, and how many each of `exports` stands for.

    A folder stands for the regular files in it and in its subfolders, by name. Names that begin
    with `.` or `_` are passed over, as by custom they hold markers (`_SUCCESS`) and checksums, and
    so are links to folders, which may lead in circles; a note tells how many. What belongs to a
    file that was found with it, such as its checksum, is passed over too.
    Raises `SourceError` where something is not there, `UsageError` for a file named twice.
    """
    places: list[Place] = []
    notes: list[str] = []
    counts: list[int] = []
    for export in exports:
        found = _without_belongings(list(_find(export, notes)), notes)
        counts.append(len(found))
        places += found
    named: set[str] = set()
    for place in places:
        shown = place.name.encode(errors="backslashreplace").decode()
        if shown != place.name:
            raise SourceError(f"{shown}: the name is not UTF-8", hint="rename it")
        if place.address in named:
            raise UsageError(f"{place.name}: named twice")
        named.add(place.address)
    return places, tuple(notes), counts


def _without_belongings(found: list[Place], notes: list[str]) -> list[Place]:
    belonging = belongings([place.name for place in found])
    if belonging:
        more = f" and {len(belonging) - 1} more" if len(belonging) > 1 else ""
        notes.append(
            f"passed over {min(belonging)}{more}: checksums, signatures or backups of files beside "
            "them"
        )
    return [place for place in found if place.name not in belonging]


def _find(export: str, notes: list[str]) -> Iterator[Place]:
    if export == "-":
        yield Pipe("stdin", "-")
    elif export.startswith(_FILE_URL):
        yield from _find(export.removeprefix(_FILE_URL), notes)
    elif is_url(export):
        yield from find_remote(export)
    elif os.path.lexists(export) or not glob.has_magic(export):
        yield from _find_path(export, notes)
    elif matches := sorted(glob.glob(export, recursive=True)):  # noqa: PTH207 - takes absolute patterns too
        for match in matches:
            yield from _find_path(match, notes)
    else:
        raise SourceError(f"{export}: no file matches")


def _find_path(path: str, notes: list[str]) -> Iterator[Place]:
    try:
        status = os.stat(path)  # noqa: PTH116 - keeps the path as it was written
    except FileNotFoundError:
        if os.path.islink(path):  # noqa: PTH114 - as written
            raise SourceError(f"{path}: a link that leads nowhere") from None
        raise SourceError(f"{path}: no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    address = os.path.abspath(path)  # noqa: PTH100 - leaves symbolic links alone
    if stat.S_ISDIR(status.st_mode):
        yield from _find_in_folder(path, notes)
    elif stat.S_ISREG(status.st_mode):
        yield LocalFile(path, address, status.st_size, status.st_mtime_ns)
    else:
        yield Pipe(path, address)


def _find_in_folder(folder: str, notes: list[str]) -> Iterator[Place]:
    """Yield the files of a folder and its subfolders."""

    def unreadable(error: OSError) -> None:
        raise SourceError(f"{error.filename}: cannot be read ({error.strerror})") from None

    found: list[str] = []
    passed_over = 0
    for parent, folders, files in os.walk(folder, onerror=unreadable):
        hidden = [name for name in folders + files if name.startswith((".", "_"))]
        linked = [name for name in folders if os.path.islink(os.path.join(parent, name))]  # noqa: PTH114, PTH118 - as written
        folders[:] = [name for name in folders if name not in hidden]
        passed_over += len({*hidden, *linked})
        paths = [os.path.join(parent, name) for name in files if name not in hidden]  # noqa: PTH118 - as written
        found += [path for path in paths if not _is_special(path)]
    if not found:
        raise SourceError(f"{folder}: the folder holds no files")
    if passed_over:
        notes.append(f"{folder}: passed over {passed_over} names (.*, _* and linked folders)")
    for path in sorted(found):
        yield from _find_path(path, notes)


def _is_special(path: str) -> bool:
    """Tell a pipe or a device; a link that leads nowhere is none, and an error later on."""
    return os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113 - as written
