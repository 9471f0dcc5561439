"""Where exports stand: files, globs, folders and pipes on this machine, and URLs."""

import io
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.errors import SourceError, UsageError
from engine.source.files.file_kinds import sidecars
from engine.source.files.file_state import FileState
from engine.source.files.local import LocalTree, nothing_found, unreadable
from engine.source.files.patterns import expand
from engine.source.files.remote import RemoteFile, find_remote
from engine.source.files.replay_buffer import ReplayBuffer
from engine.source.streams import OpenFile
from engine.source.urls import display_url, file_path, is_url


class Location(Protocol):
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

    @property
    def state(self) -> FileState | None:
        """What it was found as; None for a pipe."""

    @property
    def is_quick_to_check(self) -> bool:
        """Whether `look` takes no time, so that it can be called while the file is read."""

    @property
    def is_seekable(self) -> bool:
        """Whether it can be read from any location in it."""

    def current_state(self) -> FileState | None:
        """Return what it is now. Raises `SourceError`, or what the file system raises."""

    def open(self) -> OpenFile:
        """Open the file at its start, unbuffered. Raises what the file system raises."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file."""

    name: str
    address: str
    state: FileState
    is_quick_to_check = True
    is_seekable = True

    @property
    def size(self) -> int | None:
        """Bytes as stored."""
        return self.state.size

    @property
    def written_utc_ns(self) -> int | None:
        """When it was last written, in ns since 1970."""
        return self.state.written_utc_ns

    def current_state(self) -> FileState:
        """Return what the path names now."""
        return FileState.of_status(os.stat(self.address))  # noqa: PTH116 - as `find_locations`

    def open(self) -> OpenFile:
        """Open the file."""
        return Path(self.address).open("rb", buffering=0)


class Pipe:
    """Standard input, or a named pipe: bytes that pass once, and so do not change.

    Standard input may be redirected from a file, which can.

    The first `open` is for a look at the start; the second one sees that start again and goes on.
    Once `is_kept` is set, all that passes is kept, and it can be opened ever again.
    """

    is_seekable = False

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.size = None
        self.written_utc_ns = None
        self.state = _state_of_redirected() if address == "-" else None
        self.is_quick_to_check = self.state is not None
        self.is_kept = False
        self._buffer: ReplayBuffer | None = None
        self._opened = 0

    def current_state(self) -> FileState | None:
        """Return what a redirected file is now; None for a pipe, as what has passed is past."""
        return None if self.state is None else _state_of_redirected()

    def open(self) -> OpenFile:
        """Open the pipe. Raises `SourceError` if what has passed was not kept."""
        self._opened += 1
        if self._buffer is None:
            is_stdin = self.address == "-"
            self._buffer = ReplayBuffer(
                _standard_input() if is_stdin else _unbuffered(self.address)
            )
        if self.is_kept or self._opened == 1:
            return self._buffer.reader(keep=True)
        if self._opened == 2:  # noqa: PLR2004 - the look was the first
            return self._buffer.reader(keep=False)
        raise SourceError(f"{self.name}: a pipe can be read only once")


def _state_of_redirected() -> FileState | None:
    """Return the state of the file that standard input is redirected from, None for a pipe."""
    try:
        status = os.fstat(sys.stdin.fileno())
    except (AttributeError, ValueError, OSError):  # None, closed, or a test's stand-in
        return None
    return FileState.of_status(status) if stat.S_ISREG(status.st_mode) else None


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


def find_locations(
    exports: Iterable[str], sleep: Callable[[float], None] = time.sleep
) -> tuple[list[Location], tuple[str, ...], list[list[Location]]]:
    """Expand what the command line names into files, in that order.

    Returns the files, notes on them, and the same files in groups that are judged together: first
    the regular files that are named themselves, then those of each folder, glob and pipe. A shell
    that expands a glob names the files that match.

    A folder stands for the regular files in it and in its subfolders, by name; see `patterns` for
    what is passed over. Links to folders, which may lead in circles, are followed only where they
    are named or matched; a note tells how many names were passed over. What belongs to a file of
    the same group, such as its checksum, is passed over too. `sleep` waits between the tries of
    a remote read.

    Raises `SourceError` where something is not there, `UsageError` for a file named twice.
    """
    locations: list[Location] = []
    notes: list[str] = []
    plain: list[Location] = []
    groups: list[list[Location]] = []
    for export in exports:
        found = list(_find(export, notes, sleep))
        if _is_named(export, found):
            plain += found
        else:
            found = _without_sidecars(found, notes)
            groups.append(found)
        locations += found
    kept = _without_sidecars(plain, notes)
    passed_over = {location.address for location in plain} - {location.address for location in kept}
    locations = [location for location in locations if location.address not in passed_over]
    named: set[str] = set()
    for location in locations:
        utf8 = location.name.encode(errors="backslashreplace").decode()
        if utf8 != location.name:
            raise SourceError(f"{utf8}: the name is not UTF-8", hint="rename it")
        if location.address in named:
            raise UsageError(f"{location.name}: named twice", hint="name each file once")
        named.add(location.address)
    return locations, tuple(notes), [kept, *groups]


def _is_named(export: str, found: Sequence[Location]) -> bool:
    """Tell whether what was found is the regular or remote file that the command line names."""
    if len(found) != 1 or isinstance(found[0], Pipe):
        return False
    path = file_path(export)
    if path is None:
        path = display_url(export) if is_url(export) else export
    return found[0].name == path


def _without_sidecars(found: Sequence[Location], notes: list[str]) -> list[Location]:
    belonging = sidecars([location.name for location in found])
    if belonging:
        more = f" and {len(belonging) - 1} more" if len(belonging) > 1 else ""
        notes.append(
            f"passed over {min(belonging)}{more}: checksums, signatures or backups of files beside "
            "them"
        )
    return [location for location in found if location.name not in belonging]


def _find(export: str, notes: list[str], sleep: Callable[[float], None]) -> Sequence[Location]:
    if export == "-":
        return [Pipe("stdin", "-")]
    if (path := file_path(export)) is not None:
        return _find_local(path, notes)
    if is_url(export):
        return _find_remote(export, notes, sleep)
    return _find_local(export, notes)


def _find_remote(url: str, notes: list[str], sleep: Callable[[float], None]) -> list[RemoteFile]:
    found, passed_over = find_remote(url)
    for file in found:
        file.sleep = sleep
    if passed_over:
        notes.append(f"{display_url(url)}: passed over {passed_over} names (.*, _*)")
    return found


def _find_local(path: str, notes: list[str]) -> list[Location]:
    entries, passed_over = expand(LocalTree(), path)
    if passed_over:
        notes.append(f"{path}: passed over {passed_over} names (.*, _* and linked folders)")
    if not entries:
        raise nothing_found(path, passed_over)
    return [_local(entry.path) for entry in entries]


def _local(path: str) -> Location:
    try:
        status = os.stat(path)  # noqa: PTH116 - keeps the path as it was written
    except FileNotFoundError:
        raise SourceError(f"{path}: a link that leads nowhere", hint="mend or remove it") from None
    except OSError as error:
        raise unreadable(path, error) from None
    address = os.path.abspath(path)  # noqa: PTH100 - leaves symbolic links alone
    if stat.S_ISREG(status.st_mode):
        return LocalFile(path, address, FileState.of_status(status))
    return Pipe(path, address)
