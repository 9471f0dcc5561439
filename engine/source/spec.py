"""The files to read and how, as a value stored in the ledger."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from engine.errors import UsageError
from engine.source.options import ReadingOptions
from engine.source.urls import is_redacted, redacted

if TYPE_CHECKING:
    from engine.source.files.file_source import FileSource


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Files and how to read them. Implements `Spec`."""

    files: tuple[str, ...]
    """Paths, globs, folders, URLs, or `-` for standard input."""
    options: ReadingOptions = field(default_factory=ReadingOptions)

    @property
    def names(self) -> list[str]:
        """The files as named by the user; in URLs a mark replaces each credential."""
        return [redacted(file) for file in self.files]

    def open(self, *, rereadable: bool = False) -> "FileSource":
        """Find the files and check that they can be read; raises the errors of `open_source`.

        With `rereadable`, the data of a pipe is copied, so that it can be read again.
        """
        from engine.source.files.opening import open_source  # noqa: PLC0415 - large: all readers

        return open_source(self.files, self.options, keep_pipes=rereadable)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values without credentials; see `Spec.to_dict`."""
        return {"exports": self.names, "reading": asdict(self.options)}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """Return the spec from `to_dict`. A credential in a URL is lost: see `is_resumable`."""
        return cls(tuple(kept["exports"]), ReadingOptions(**kept["reading"]))

    @property
    def reads_stdin(self) -> bool:
        """Whether standard input is among the files."""
        return "-" in self.files

    @property
    def is_resumable(self) -> bool:
        """Whether the same files can be opened again from the spec alone."""
        return not self.reads_stdin and not any(map(is_redacted, self.files))

    def require_resumable(self, run: str) -> None:
        """Raise `UsageError` with the reason if run `run` cannot be resumed from its spec."""
        if self.reads_stdin:
            raise UsageError(
                f"run {run} read from a pipe, which only its own command can repeat",
                hint="pipe the same data into the same `cohortsync push` again, or other data with "
                "--on-changed restart",
            )
        if not self.is_resumable:
            raise UsageError(
                f"run {run} read from a URL whose credentials or signature are not kept",
                hint="run the same `cohortsync push` command again: it resumes this run",
            )
