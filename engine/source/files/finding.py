"""Finds the files of an export: by path, glob, folder or URL, or through a pipe."""

import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from engine.errors import MissingExportError, SourceError, UsageError
from engine.source.files.file_groups import sidecars
from engine.source.files.file_state import FileState
from engine.source.files.local import LocalTree, nothing_found, unreadable
from engine.source.files.locations import LocalFile, Location, Pipe
from engine.source.files.patterns import expand
from engine.source.files.remote import RemoteFile, find_remote
from engine.source.urls import display_url, file_path, is_url


class FoundFiles(NamedTuple):
    """The files of an export."""

    locations: list[Location]
    """The files in the order of reading."""
    notes: tuple[str, ...]
    groups: list[list[Location]]
    """The same files, in groups that must not mix kinds; see `file_groups`.

    The first group is the regular and remote files that are named one by one. A group for each
    folder, glob and pipe follows.
    """


def find_locations(
    exports: Iterable[str], sleep: Callable[[float], None] = time.sleep
) -> FoundFiles:
    """Find the files of the exports, in the order of the exports.

    A folder means the regular files in it and in its subfolders, sorted by name; `patterns`
    describes which names are skipped. Links to folders may form cycles, and are followed only if
    they are named or matched. Sidecar files of a file in the same group are skipped too. Notes give
    the number of skipped names. `sleep` waits between the attempts of a remote read.

    Raises `MissingExportError` if a name matches no file, `UsageError` for a file named twice.
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
    return FoundFiles(locations, tuple(notes), [kept, *groups])


def _is_named(export: str, found: Sequence[Location]) -> bool:
    """Return whether the export names one regular or remote file."""
    if len(found) != 1 or isinstance(found[0], Pipe):
        return False
    path = file_path(export)
    if path is None:
        path = display_url(export) if is_url(export) else export
    return found[0].name == path


def _without_sidecars(found: Sequence[Location], notes: list[str]) -> list[Location]:
    names = sidecars([location.name for location in found])
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        notes.append(
            f"passed over {min(names)}{more}: checksums, signatures or backups of other files"
        )
    return [location for location in found if location.name not in names]


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
        raise MissingExportError(f"{path}: a broken link", hint="repair or remove it") from None
    except OSError as error:
        raise unreadable(path, error) from None
    address = os.path.abspath(path)  # noqa: PTH100 - leaves symbolic links alone
    if stat.S_ISREG(status.st_mode):
        return LocalFile(path, address, FileState.of_status(status))
    return Pipe(path, address)
