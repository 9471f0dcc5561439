"""The files, the table or the query to read and how, as a value stored in the ledger."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Optional, Self

from engine.errors import UsageError
from engine.source.lake.naming import is_table
from engine.source.options import ReadingOptions
from engine.source.sql.query import QueryResult
from engine.source.urls import is_redacted, redacted

if TYPE_CHECKING:
    from engine.source.files.file_state import FileState
    from engine.source.protocol import Source


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Files, one table or the result of a query, and how to read them. Implements `Spec`."""

    files: tuple[str, ...]
    """Paths, globs, folders, URLs, `-` for standard input, or the name of a table."""
    options: ReadingOptions = field(default_factory=ReadingOptions)
    date: str | None = None
    """The date (ISO 8601) of configured names that depend on it; None if none did."""
    exclude: Optional["SourceSpec"] = None
    """The exclusion list: its uids are left out."""
    digest: str | None = None
    """The digest of the uids, if this is the exclusion list of a push; see `Exclusion.digest`."""
    query: QueryResult | None = None
    """The result of a query, which is read in place of `files`."""

    @property
    def names(self) -> list[str]:
        """The files as named by the user; in URLs a mark replaces each credential.

        A query is named by its connection and the start of its text.
        """
        if self.query is not None:
            return [self.query.query.name]
        return [redacted(file) for file in self.files]

    @property
    def lists_changes(self) -> bool:
        """Whether the rows of its query say add or remove."""
        return self.query is not None and self.query.query.lists_changes

    def open(self, *, rereadable: bool = False) -> "Source":
        """Find the files and check that they can be read.

        With `rereadable`, the data of a pipe is copied, so that it can be read again. Raises as
        `open_source`, or for a table as `open_table_source`, or for a query as `SpoolSource`.
        """
        if self.query is not None:
            if self.query.spool is None:
                from engine.source.sql.unread import UnreadResult  # noqa: PLC0415 - as below

                return UnreadResult(self.query, self.options)
            from engine.source.sql.spool import SpoolSource  # noqa: PLC0415 - large

            return SpoolSource(self.query, self.options)
        if (table := self.table) is not None:
            from engine.source.lake.opening import open_table_source  # noqa: PLC0415 - large

            return open_table_source(table, self.options)
        from engine.source.files.opening import open_source  # noqa: PLC0415 - large: all readers

        return open_source(self.files, self.options, keep_pipes=rereadable)

    @property
    def table(self) -> str | None:
        """The name of the table, if one is read; raises `UsageError` if there is something else."""
        tables = [each for each in self.files if is_table(each)]
        if tables and len(self.files) > 1:
            raise UsageError(f"{tables[0]}: a table is read alone, without other exports")
        return tables[0] if tables else None

    def pinned(self) -> Self:
        """Return the spec with the version that a table has now; files are left as they are.

        Raises as `open_table`.
        """
        exclude = None if self.exclude is None else self.exclude.pinned()
        files = self.files
        if (table := self.table) is not None:
            from engine.source.lake.opening import pinned  # noqa: PLC0415 - large

            files = (pinned(table),)
        return replace(self, files=files, exclude=exclude)

    def newest(self) -> Self:
        """Return the spec of the newest file or folder that each pattern matches.

        Raises as `pick_newest`.
        """
        from engine.source.files.picking import pick_newest  # noqa: PLC0415 - as above

        return replace(self, files=tuple(pick_newest(each) for each in self.files))

    def states(self) -> Mapping[str, "FileState | None"]:
        """Find the files, unread; return the state of each by its path or URL, None for a pipe.

        A table has the state of its version. Raises as `find_locations`, and as `open_table`.
        """
        if (table := self.table) is not None:
            from engine.source.files.file_state import FileState  # noqa: PLC0415 - as above
            from engine.source.lake.opening import open_table  # noqa: PLC0415 - as above

            opened = open_table(table)
            return {opened.name: FileState(opened.bytes, opened.written_utc_ns)}
        from engine.source.files.finding import find_locations  # noqa: PLC0415 - as above

        return {each.address: each.state for each in find_locations(self.files).locations}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values without credentials; see `Spec.to_dict`."""
        exclude = None if self.exclude is None else self.exclude.to_dict()
        query = None if self.query is None else self.query.to_dict()
        others = {"date": self.date, "exclude": exclude, "digest": self.digest, "query": query}
        given = {name: value for name, value in others.items() if value is not None}
        return {"exports": self.names, "reading": asdict(self.options) | given}

    @property
    def request(self) -> dict[str, Any]:
        """What is read, as JSON values without its content: equal for equal commands."""
        asked = replace(self, digest=None, query=None).to_dict()
        return asked if self.query is None else asked | {"query": self.query.query.to_dict()}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """Return the spec from `to_dict`. A credential in a URL is lost: see `is_resumable`."""
        reading = dict(kept["reading"])
        date, exclude, digest, query = (
            reading.pop(each, None) for each in ("date", "exclude", "digest", "query")
        )
        listed = None if exclude is None else cls.from_dict(exclude)
        result = None if query is None else QueryResult.from_dict(query)
        files = tuple(kept["exports"]) if result is None else ()
        return cls(files, ReadingOptions(**reading), date, listed, digest, result)

    @property
    def reads_stdin(self) -> bool:
        """Whether standard input is among the files, or those of the exclusion list."""
        return "-" in self.files or (self.exclude is not None and self.exclude.reads_stdin)

    @property
    def is_resumable(self) -> bool:
        """Whether the same files can be opened again from the spec alone."""
        is_excluded_known = self.exclude is None or self.exclude.is_resumable
        return is_excluded_known and not self.reads_stdin and not any(map(is_redacted, self.files))

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
