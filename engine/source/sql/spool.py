"""The result of a query in a file, which a run reads any number of times.

A query is run once: its result is needed twice for a plan, and again when a push is resumed. A
spool is Parquet with the values of the uid column as they came, an absent one being empty, in the
order of the rows.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import LedgerError, SourceError
from engine.source.block import Block
from engine.source.formats.rows import not_without_uid
from engine.source.options import ReadingOptions
from engine.source.source_file import SourceFile
from engine.source.sql.changes import LISTED, block_of
from engine.source.sql.query import QueryResult
from engine.storage.arrow import buffers
from engine.storage.uid_parquet import UIDS, UidWriter, open_parquet, open_writer, read_batches

LOST_HINT = "run the command of the cohort again: it runs the query again, as a new run"


class SpoolSource:
    """A spool as a source. Fulfils `Source`, `HasFiles`, `MeasuresReading`, `Rereadable`.

    It counts as one file, with the name of the query, written when the query was run.
    """

    is_rereadable = True
    notes = ()

    def __init__(self, result: QueryResult, options: ReadingOptions) -> None:
        """Check that the spool is there; raises `SourceError` if it is not."""
        if result.spool is None:
            raise TypeError("a result that was not read here has no spool")
        self._spool = result.spool
        self._read_utc_ns = result.read_utc_ns
        self._strip = options.strip
        self._columns = (LISTED if result.query.lists_changes else UIDS).names
        self.name = result.query.name
        try:
            with open_parquet(self._spool) as file:
                self._rows: int = file.metadata.num_rows
            self._bytes = self._spool.stat().st_size
        except (OSError, pa.ArrowException) as error:
            raise _lost(self.name) from error
        self.identity: Mapping[str, Any] = {
            "query": result.query.to_dict(),
            "column": options.column,
            "digest": result.digest,
            "strip": options.strip,
        }
        self._rows_read = self.uids_read = 0

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The spool as one file. See `HasFiles`."""
        return (SourceFile(self.name, self._bytes, self._read_utc_ns, self.uids_read),)

    @property
    def share_read(self) -> float | None:
        """The share of the rows that has been read. See `MeasuresReading`."""
        return self._rows_read / self._rows if self._rows else None

    def blocks(self) -> Iterator[Block]:
        """Read from the start; see `Source.blocks`. A record is a row of the result."""
        self._rows_read = self.uids_read = 0
        try:
            yield from not_without_uid(self._blocks(), self.name)
        except LedgerError as error:
            raise _lost(self.name) from error

    def _blocks(self) -> Iterator[Block]:
        for batch in read_batches(self._spool, self._columns):
            first = self._rows_read + 1
            block = block_of(batch, file=self.name, first_record=first, strip=self._strip)
            self._rows_read += block.records
            self.uids_read += len(block.uids)
            yield block


def _lost(name: str) -> SourceError:
    return SourceError(
        f"{name}: the result of the query is no longer in the state folder", hint=LOST_HINT
    )


@dataclass(slots=True)
class Spool:
    """A file that is being written with the uids of one cohort."""

    path: Path
    lists_changes: bool = False
    """Whether it is of the schema `LISTED`, and not `UIDS`."""
    rows: int = 0
    """Rows that were written so far."""
    writer: UidWriter | None = None
    """Writes the file; None if it is not open."""
    _lengths: Any = field(default_factory=hashlib.sha256)
    _values: Any = field(default_factory=hashlib.sha256)
    _actions: Any = field(default_factory=hashlib.sha256)

    def add(self, rows: pa.RecordBatch) -> int:
        """Write rows of the file's schema; return the bytes of their uids."""
        _, data = buffers(rows["uid"])
        self._lengths.update(pc.binary_length(rows["uid"]).to_numpy(zero_copy_only=False))
        self._values.update(data)
        if self.lists_changes:
            self._actions.update(rows["action"].to_numpy())
        self.rows += len(rows)
        if self.writer is not None:
            self.writer.write(rows)
        return len(data)

    def flush(self) -> None:
        """Write what is buffered."""
        if self.writer is not None:
            self.writer.flush()

    @property
    def digest(self) -> str:
        """The SHA-256 of the values; independent of how they were divided into batches."""
        parts = [self._lengths, self._values]
        if self.lists_changes:
            parts.append(self._actions)
        return hashlib.sha256(b"".join(each.digest() for each in parts)).hexdigest()


@contextmanager
def open_spools(
    folder: Path, values: Iterable[str | None], *, lists_changes: bool = False
) -> Iterator[dict[str | None, Spool]]:
    """Open a spool for each value of a query's `cohort_column`; None alone stands for all rows.

    The files exist, durably, only after the block ends without an error. Raises as `new_file` does.
    """
    with ExitStack() as opened:
        schema = LISTED if lists_changes else UIDS
        spools = {value: Spool(folder / _name(), lists_changes) for value in values}
        for spool in spools.values():
            spool.writer = opened.enter_context(open_writer(spool.path, schema, "none"))
        yield spools


def _name() -> str:
    return f"{secrets.token_hex(8)}.parquet"
