"""Reads the files of an export one after the other."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.errors import ChangedWhileReadError, SourceError
from engine.source.block import Block
from engine.source.files.change_detector import ChangeDetector
from engine.source.files.local import unreadable
from engine.source.files.locations import Location, Pipe
from engine.source.formats.rows import RawRows, no_uids, to_block
from engine.source.source_file import Layout, SourceFile
from engine.source.streams import OpenFile

READ_ERRORS = (OSError, pa.ArrowException)
"""The errors of reading a file: those of the file system and of PyArrow."""


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file and how to read it."""

    location: Location
    options: Mapping[str, Any]
    """The options in effect, detected or given; equal options mean the same reading."""
    read: Callable[[OpenFile], Generator[RawRows, None, bool]]
    """Yields the records; returns whether the last one is terminated, as by a line feed."""
    is_empty: bool = False
    """Whether the file has no record; it may have a header or a schema."""


class FileSource:
    """The files of an export. Fulfils `Source` and all capabilities but `ExcludesUids`."""

    def __init__(
        self,
        exports: Sequence[ExportFile],
        changes: ChangeDetector,
        *,
        strip: bool,
        notes: tuple[str, ...],
        locations: Sequence[Location],
    ) -> None:
        """Read `exports`; `locations` are those of their files and of files of zero bytes.

        `changes` detects a file that changes while it is read.
        """
        self._exports = exports
        self._changes = changes
        self._locations = locations
        self._uids: Counter[str] = Counter()
        self._strip = strip
        self.notes = notes
        sizes = [export.location.size for export in exports]
        self._bytes = None if None in sizes else sum(size or 0 for size in sizes)
        self._bytes_read = self.uids_read = 0
        files = [{"file": export.location.address, **export.options} for export in exports]
        self.identity: Mapping[str, Any] = {"files": files, "strip": strip}

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """Every file, including those of zero bytes. See `HasFiles`."""
        return tuple(
            # A store without a time of writing returns the start of 1970.
            SourceFile(each.name, each.size, each.written_utc_ns or None, self._uids[each.name])
            for each in self._locations
        )

    @property
    def layouts(self) -> list[Layout]:
        """Each layout of the files. See `HasLayouts`."""
        counts = Counter(
            (each.options["format"], each.options.get("column"), each.options.get("header", False))
            for each in self._exports
        )
        return [Layout(*layout, files) for layout, files in counts.items()]

    @property
    def share_read(self) -> float | None:
        """The share of the stored bytes that has been read. See `MeasuresReading`."""
        return min(1.0, self._bytes_read / self._bytes) if self._bytes else None

    @property
    def is_rereadable(self) -> bool:
        """Whether no file is a pipe without a kept copy. See `Rereadable`."""
        return not any(isinstance(each, Pipe) and not each.is_kept for each in self._locations)

    def blocks(self) -> Iterator[Block]:
        """Read every file from its start, in order. See `Source.blocks`.

        A block of a file is yielded after the next one was read, or after the end of its file was
        checked. So the cut-off record at the end of a file that changes is never yielded. Data
        from a pipe does not change, and is yielded at once.
        """
        holds_back = any(export.location.state for export in self._exports)
        held: Block | None = None
        self.uids_read = 0
        self._uids.clear()
        skipped: Counter[str] = Counter()
        try:
            for block in self._read_all():
                self.uids_read += len(block.uids)
                self._uids[block.file] += len(block.uids)
                for rows in block.skipped if not self.uids_read else ():
                    skipped[rows.reason] += rows.count
                if held is not None:
                    yield held
                held = block if holds_back else None
                if not holds_back:
                    yield block
        except SourceError as error:
            if held is not None and not isinstance(error, ChangedWhileReadError):
                yield held
            raise
        if held is not None:
            yield held
        if not self.uids_read:
            raise no_uids([export.location.name for export in self._exports], skipped)

    def _read_all(self) -> Iterator[Block]:
        bytes_before = 0
        for export in self._exports:
            yield from self._read(export, bytes_before)
            bytes_before += export.location.size or 0
            self._bytes_read = bytes_before
        self._changes.check_all()

    def _read(self, export: ExportFile, bytes_before: int) -> Iterator[Block]:
        location = export.location
        first_record = 1
        try:
            with closing(location.open()) as file:
                for rows in self._rows(export, file):
                    block = to_block(
                        rows, file=location.name, first_record=first_record, strip=self._strip
                    )
                    first_record += block.records
                    if location.size is not None:
                        self._bytes_read = bytes_before + file.tell()
                    yield block
        except READ_ERRORS as error:
            if not isinstance(error, FileNotFoundError):
                self._changes.check(location)  # A truncated file cannot be read to its end.
            raise unreadable(location.name, error) from error

    def _rows(self, export: ExportFile, file: OpenFile) -> Iterator[RawRows]:
        """Yield the rows; before each, check for a change of the file if the check is quick."""
        rows = export.read(file)
        while True:
            try:
                some = next(rows)
            except StopIteration as end:
                self._changes.check_end(export.location, is_ended=bool(end.value))
                return
            if export.location.is_quick_to_check:
                self._changes.check(export.location)
            yield some
