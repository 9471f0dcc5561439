"""Expands paths with `*`, `?`, `[…]` or `**`, in the same way on the local disk and in a store.

A name that exists as written takes precedence over its pattern. `*`, `?` and `[…]` match within a
name; `**` matches any number of folders. A pattern may match a file, or a folder, which means all
files below it. Names that begin with `.` or `_` are skipped, unless the pattern's own name begins
with the same character: by convention they are markers (`_SUCCESS`) and checksums.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import Any, Protocol

from engine.errors import UsageError
from engine.source.lake.naming import is_table
from engine.source.urls import HTTP, carrier, file_path, is_url, links, scheme_of

_MAGIC = re.compile(r"[*?[]")
_ANY_FOLDERS = "**"
_DELTA_LOG = "_delta_log"
"""The folder in each folder that is a Delta table."""
_FOLDER_MARKER = "_$folder$"
"""The suffix of the empty files by which some stores mark a folder."""


class Kind(Enum):
    """The kind of object that a name refers to."""

    FILE = auto()
    FOLDER = auto()
    OTHER = auto()
    """A pipe or a device."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a tree."""

    name: str
    path: str
    kind: Kind
    is_link: bool = False
    info: Any = None
    """The info about the entry in the tree's listing."""


class Tree(Protocol):
    """Folders and files on a disk or in a store."""

    def entry(self, path: str) -> Entry | None:
        """Return the entry at a path, following links; None if there is none."""

    def children(self, folder: str, *, is_deep: bool) -> Iterable[Entry]:
        """Return the entries of a folder; none if it is not a folder.

        `is_deep` announces that all entries below it will be requested too.
        """


def has_magic(path: str) -> bool:
    """Return whether a path has a wildcard character."""
    return _MAGIC.search(path) is not None


def pick_problem(pattern: str) -> str | None:
    """Return why nothing can be picked by a pattern; None if something can.

    Raises `UsageError` for a URL that names no file of this machine.
    """
    path = file_path(pattern) or pattern
    if is_table(path):
        return "a table is read at its latest version"
    if is_url(path) and scheme_of(links(path)[0]) in HTTP:
        return "a server cannot list files over http, so that none can be picked as the newest"
    if not has_magic(links(path)[carrier(path)] if is_url(path) else path):
        return "the newest can be picked only by a pattern with a wildcard, such as vip-*.csv"
    return None


def split_at_magic(path: str) -> tuple[str, str]:
    """Split a pattern into the folder it begins in, with the last slash, and the rest."""
    magic = _MAGIC.search(path)
    cut = path.rfind("/", 0, magic.start() if magic else len(path)) + 1
    return path[:cut], path[cut:]


def expand(tree: Tree, path: str) -> tuple[list[Entry], int]:
    """Return the files that a path matches, sorted, and the number of skipped names."""
    return _Search(tree).search(path)


def matches(tree: Tree, path: str) -> tuple[list[Entry], int]:
    """Return what a path itself matches, sorted, and the number of skipped names.

    As `expand`, but a folder is one match. With a final slash only folders match.
    """
    found, passed_over = _Search(tree, opens_folders=False).search(path.rstrip("/"))
    if path.endswith("/"):
        found = [entry for entry in found if entry.kind is Kind.FOLDER]
    return found, passed_over


class _Search:
    """A search that collects files, each once; unless it opens folders, also folders."""

    def __init__(self, tree: Tree, *, opens_folders: bool = True) -> None:
        self._tree = tree
        self._opens_folders = opens_folders
        self.found: dict[str, Entry] = {}
        self.passed_over: set[str] = set()

    def search(self, path: str) -> tuple[list[Entry], int]:
        """Return what a path or pattern matches, sorted, and the number of skipped names."""
        exact = self._tree.entry(path)
        if exact is not None:
            self.take(exact)
        elif has_magic(path):
            folder, rest = split_at_magic(path)
            *names, last = rest.split("/")
            self.match(folder, [*(name for name in names if name), last])
        return [self.found[path] for path in sorted(self.found)], len(self.passed_over)

    def take(self, entry: Entry) -> None:
        """Add a file, or all files below a folder."""
        if entry.kind is Kind.FOLDER and self._opens_folders:
            self._match_below(entry.path, [])
        else:
            self.found[entry.path] = entry

    def match(self, folder: str, names: list[str]) -> None:
        """Add the matches below a folder, name by name."""
        first, *rest = names
        if first in {_ANY_FOLDERS, ""}:  # Empty after a final slash.
            self._match_below(folder, rest)
            return
        for entry in self._matches(folder, first):
            if not rest:
                self.take(entry)
            elif entry.kind is Kind.FOLDER:
                self.match(entry.path, rest)

    def _match_below(self, folder: str, rest: list[str]) -> None:
        if rest:
            self.match(folder, rest)
        for entry in self._children(folder, is_deep=True):
            is_folder = entry.kind is Kind.FOLDER
            if _is_hidden(entry.name) or (is_folder and entry.is_link):
                self.passed_over.add(entry.path)
            elif is_folder:
                self._match_below(entry.path, rest)
            elif not rest and entry.kind is Kind.FILE:
                self.found[entry.path] = entry

    def _children(self, folder: str, *, is_deep: bool) -> list[Entry]:
        """Return what is in a folder; raises `UsageError` for one that is a Delta table."""
        children = list(self._tree.children(folder, is_deep=is_deep))
        if any(entry.name == _DELTA_LOG and entry.kind is Kind.FOLDER for entry in children):
            raise UsageError(
                f"{folder}: is a Delta table, whose files also have rows of earlier versions",
                hint="delta: before the name of the folder reads it as a table",
            )
        return children

    def _matches(self, folder: str, pattern: str) -> list[Entry]:
        if not has_magic(pattern):
            joint = "" if not folder or folder.endswith("/") else "/"
            entry = self._tree.entry(f"{folder}{joint}{pattern}")
            return [] if entry is None else [entry]
        children = self._children(folder, is_deep=False)
        if exact := [entry for entry in children if entry.name == pattern]:
            return exact
        matching = [entry for entry in children if fnmatchcase(entry.name, pattern)]
        is_asked_for = pattern.startswith((".", "_"))
        hidden = [entry for entry in matching if _is_hidden(entry.name) and not is_asked_for]
        self.passed_over.update(entry.path for entry in hidden)
        return [entry for entry in matching if entry not in hidden]


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_")) or name.endswith(_FOLDER_MARKER)
