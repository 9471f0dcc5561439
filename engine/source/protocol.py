"""What a source of uids offers: what each has to, and what only some can.

A source fulfils `Source`, and whichever of the capabilities below it has. Who needs a capability
asks for it with `isinstance`; one that is absent is never guessed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from engine.source.block import Block
from engine.source.source_file import SourceFile


class Source(Protocol):
    """Uids that can be read from the start, in an order that stays the same."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What is read, and how: JSON values that are equal exactly when the reading is."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before the run, such as an option that is ignored."""

    def blocks(self) -> Iterator[Block]:
        """Read from the start.

        A block holds at most a few megabytes of uids, so memory stays flat. Raises `SourceError`
        where reading cannot go on, and `EmptyExportError` at the end if no record held a uid.
        """


class Spec(Protocol):
    """What is to be read, and how; it can be written down, and opened later.

    A kind of source that is not made of files adds `kind` to `reading` in `to_dict`.
    """

    @property
    def names(self) -> Sequence[str]:
        """What is read, in the user's words, with no credential in it."""

    def open(self, *, rereadable: bool = False) -> Source:
        """Check that it can be read, and return the source; `rereadable`: more than once.

        Raises `SourceError` where it cannot be read, `UsageError` where the user has to decide.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: `exports`, which are `names`, and `reading`, the options by name."""


@runtime_checkable
class HasFiles(Protocol):
    """A source that is made of files."""

    @property
    def files(self) -> Sequence[SourceFile]:
        """The files in the order in which they are read, with sizes and times of writing.

        Their `uids` are those of the latest reading, as far as it has come.
        """


@runtime_checkable
class MeasuresReading(Protocol):
    """A source that knows how far reading has come, as seen from any thread."""

    @property
    def share_read(self) -> float | None:
        """How much has been read, from 0 to 1; None if the size is unknown."""

    @property
    def uids_read(self) -> int:
        """How many uids the blocks read so far hold."""


@runtime_checkable
class Rereadable(Protocol):
    """A source that may be read more than once."""

    @property
    def is_rereadable(self) -> bool:
        """Whether `blocks` can be called again; a pipe has to be copied for that."""


def files_of(source: Source) -> Sequence[SourceFile]:
    """Return the files that a source is made of; none if it is not made of files."""
    return source.files if isinstance(source, HasFiles) else ()


def is_rereadable(source: Source) -> bool:
    """Return whether a source is known to be readable again."""
    return isinstance(source, Rereadable) and source.is_rereadable
