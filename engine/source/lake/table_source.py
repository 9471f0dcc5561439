"""The uids in one column of a table, at one version."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.source.block import Block
from engine.source.formats.arrow_columns import uid_column
from engine.source.formats.rows import blocks_of
from engine.source.lake.table import LakeTable
from engine.source.options import ReadingOptions
from engine.source.source_file import Layout, SourceFile


class TableSource:
    """A table as a source. Fulfils `Source` and all capabilities but `ExcludesUids`.

    It counts as one file: its name has the version, and it was written when that was committed.
    The table's own files may be of any age.
    """

    is_rereadable = True

    def __init__(self, table: LakeTable, options: ReadingOptions) -> None:
        """Find the column; raises `SourceError` or `UsageError` for one that cannot be used."""
        self._table = table
        self._strip = options.strip
        self.column = uid_column(table.name, table.schema, options.column)
        self.identity: Mapping[str, Any] = {
            "table": table.identity,
            "version": table.version,
            "column": self.column,
            "strip": options.strip,
        }
        unused = options.format != "auto" or not options.header
        self.notes = ("--format and --no-header are ignored: a table has columns",) * unused
        self.uids_read = 0
        self._records_read = 0

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The table as one file. See `HasFiles`."""
        table = self._table
        return (SourceFile(table.name, table.bytes, table.written_utc_ns, self.uids_read),)

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The column that is read. See `HasLayouts`."""
        kind = self._table.name.partition(":")[0]
        return (Layout(f"{kind} table", self.column),)

    @property
    def share_read(self) -> float | None:
        """The share of the rows that has been read. See `MeasuresReading`."""
        records = self._table.records
        return min(1.0, self._records_read / records) if records else None

    def blocks(self) -> Iterator[Block]:
        """Read from the start; see `Source.blocks`. A record is a row that was not deleted."""
        self.uids_read = self._records_read = 0
        table = self._table
        for block in blocks_of(table.values(self.column), file=table.name, strip=self._strip):
            self._records_read += block.records
            self.uids_read += len(block.uids)
            yield block
