"""The interface of a source of uids, and optional capabilities.

A source implements `Source`, and any of the capabilities below. A caller that needs a capability
checks for it with `isinstance`; an absent one is never assumed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from engine.source.block import Block
from engine.source.source_file import Layout, SourceFile


class Source(Protocol):
    """Uids that can be read from the start in a stable order."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON values for what is read and how; equal if and only if the reading is equal."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user before the run, such as an ignored option."""

    def blocks(self) -> Iterator[Block]:
        """Read from the start.

        A block has at most a few megabytes of uids, so memory use is bounded. Raises `SourceError`
        if reading cannot continue, and `EmptyExportError` at the end if no record had a uid.
        """


class Spec(Protocol):
    """A description of what to read and how; it can be stored, and opened later.

    A source that does not consist of files adds `kind` to `reading` in `to_dict`.
    """

    @property
    def names(self) -> Sequence[str]:
        """The exports as the user named them, without credentials."""

    @property
    def lists_changes(self) -> bool:
        """Whether the records say add or remove, and uids without a record stay as they are."""

    def open(self, *, rereadable: bool = False) -> Source:
        """Check that the source can be read, with `rereadable` more than once, and return it.

        Raises `SourceError` if it cannot be read, `UsageError` if the user has to decide.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: `exports`, which are `names`, and `reading`, the options by name."""


@runtime_checkable
class HasFiles(Protocol):
    """A source that consists of files."""

    @property
    def files(self) -> Sequence[SourceFile]:
        """The files in the order of reading, with sizes and times of writing.

        Their `uids` count the uids read so far in the latest reading.
        """


@runtime_checkable
class HasLayouts(Protocol):
    """A source that says where it finds the uids."""

    @property
    def layouts(self) -> Sequence[Layout]:
        """Each layout that its files have, in the order of reading."""


@runtime_checkable
class MeasuresReading(Protocol):
    """A source that reports the progress of reading; usable from any thread."""

    @property
    def share_read(self) -> float | None:
        """The share that has been read, from 0 to 1; None if the size is unknown."""

    @property
    def uids_read(self) -> int:
        """Number of uids in the blocks read so far."""


@runtime_checkable
class Rereadable(Protocol):
    """A source that may be readable more than once."""

    @property
    def is_rereadable(self) -> bool:
        """Whether `blocks` can be called again; this requires a copy of a pipe."""


@runtime_checkable
class ExcludesUids(Protocol):
    """A source from which the uids of a list in memory are left out."""

    @property
    def exclusion_digest(self) -> str:
        """The digest of the list's uids, independent of their order."""


def files_of(source: Source) -> Sequence[SourceFile]:
    """Return the files of a source; none if it does not consist of files."""
    return source.files if isinstance(source, HasFiles) else ()


def is_rereadable(source: Source) -> bool:
    """Return whether a source is known to be readable again."""
    return isinstance(source, Rereadable) and source.is_rereadable


def exclusion_digest(source: Source) -> str | None:
    """Return the digest of the uids that are left out of a source; None without such a list."""
    return source.exclusion_digest if isinstance(source, ExcludesUids) else None
