"""Folders and files on the local disk, and the errors for unreadable ones."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from engine.errors import MissingExportError, SourceError
from engine.source.files.patterns import Entry, Kind, has_magic, split_at_magic


class LocalTree:
    """The local file system. Implements `patterns.Tree`; paths stay as they were written."""

    def entry(self, path: str) -> Entry | None:
        """Return the entry at a path, following links. Raises `SourceError`."""
        name = os.path.basename(path)  # noqa: PTH119 - as written
        try:
            status = os.stat(path)  # noqa: PTH116 - as written
        except FileNotFoundError:
            is_broken_link = os.path.islink(path)  # noqa: PTH114 - as written
            return Entry(name, path, Kind.FILE, is_link=True) if is_broken_link else None
        except ValueError:  # a NUL in the path
            return None
        except OSError as error:
            raise unreadable(path, error) from None
        return Entry(name, path, _kind(status.st_mode))

    def children(self, folder: str, *, is_deep: bool) -> Iterator[Entry]:
        """Yield the entries of a folder; see `patterns.Tree`. Raises `SourceError`."""
        del is_deep  # One folder is read at a time.
        try:
            with os.scandir(folder or ".") as found:
                children = list(found)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise unreadable(folder, error) from None
        for child in children:
            path = os.path.join(folder, child.name)  # noqa: PTH118 - as written
            yield Entry(child.name, path, _kind_of(child), is_link=child.is_symlink())


def _kind_of(child: "os.DirEntry[str]") -> Kind:
    try:
        return _kind(child.stat().st_mode)
    except OSError:  # A broken link; opening it raises the error.
        return Kind.FILE


def _kind(mode: int) -> Kind:
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    return Kind.FILE if stat.S_ISREG(mode) else Kind.OTHER


def unreadable(name: str, error: Exception) -> SourceError:
    """Return the error for a file or folder that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return MissingExportError(f"{name}: no such file", hint=_hint_of_missing(name))
    reason = (isinstance(error, OSError) and error.strerror) or str(error).partition("\n")[0]
    hint = None
    if isinstance(error, PermissionError):
        hint = _hint_of_denied(name)
    elif isinstance(error, NotADirectoryError):
        hint = "the part before the last slash is a file, not a folder"
    return SourceError(f"{name}: cannot be read ({reason})", hint=hint)


def nothing_found(path: str, passed_over: int) -> MissingExportError:
    """Return the error for a path that matches no file."""
    if os.path.isdir(path):  # noqa: PTH112 - as written
        hint = "name the folder or the file that the export is written to"
        if passed_over:
            hint = f"the {passed_over} names in it were passed over (.*, _* and linked folders)"
        return MissingExportError(f"{path}: the folder holds no files", hint=hint)
    if not has_magic(path):
        return MissingExportError(f"{path}: no such file", hint=_hint_of_missing(path))
    folder, _ = split_at_magic(path)
    hint = f"{_shown(folder)} holds no match; `**/` includes subfolders"
    if not os.path.isdir(folder or "."):  # noqa: PTH112 - as written
        hint = _hint_of_missing(f"{folder}.")
    elif passed_over:
        hint = f"{passed_over} names that begin with . or _ were passed over"
    return MissingExportError(f"{path}: no file matches", hint=hint)


def _hint_of_missing(path: str) -> str:
    """Return a hint that names the searched folder, and a similar name in it."""
    plain = path.rstrip("/") or "/"
    folder, name = os.path.split(plain)
    if not os.path.isdir(folder or "."):  # noqa: PTH112 - as written
        while folder and not os.path.isdir(os.path.dirname(folder) or "."):  # noqa: PTH112, PTH120 - as written
            folder = os.path.dirname(folder)  # noqa: PTH120 - as written
        return f"there is no folder {folder}"
    near: list[str] = []
    with suppress(OSError):
        near = get_close_matches(name, os.listdir(folder or "."), n=1)  # noqa: PTH208 - as written
    if near:
        return f"did you mean {os.path.join(folder, near[0])!r}?"  # noqa: PTH118 - as written
    return f"it was looked for in {_shown(folder)}"


def _shown(folder: str) -> str:
    """Return a folder's name; for the current folder, its path."""
    if folder.rstrip("/") not in {"", "."}:
        return folder
    try:
        return os.getcwd()  # noqa: PTH109 - as the system has it
    except OSError:
        return "a folder that is no longer there"


def _hint_of_denied(name: str) -> str:
    """Return a hint that names the owner, the group and the mode."""
    try:
        status = os.stat(name)  # noqa: PTH116 - as written
    except OSError:
        return "a folder on its way cannot be entered by this user"
    user, group = str(status.st_uid), str(status.st_gid)
    with suppress(KeyError):
        user = Path(name).owner()
    with suppress(KeyError):
        group = Path(name).group()
    mode = stat.filemode(status.st_mode)
    return f"it is {user}:{group} {mode}; run this as a user who may read it"
