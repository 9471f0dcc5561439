"""The files of an export, read one after the other."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from engine.errors import ChangedWhileReadError, EmptyExportError, SourceError
from engine.model.quantity import counted
from engine.source.block import Block
from engine.source.files import SourceFile
from engine.source.lines import OpenFile
from engine.source.local import unreadable
from engine.source.locations import Location
from engine.source.rows import NOT_UTF8, RawRows, settle
from engine.source.watch import ChangeWatch

READ_ERRORS = (OSError, pa.ArrowException)
"""What a file that cannot be read on raises: the file system's errors, and PyArrow's."""


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file, and how it is read."""

    place: Location
    reading: Mapping[str, Any]
    """The options in effect, found or given: equal where the reading is."""
    read: Callable[[OpenFile], Generator[RawRows, None, bool]]
    """Yields the records; returns whether the last one has its end, such as a line feed."""
    is_empty: bool = False
    """Whether it holds no record, be it that it has a header or a schema."""


class ExportSource:
    """The files of an export as one source. Fulfils `Source`."""

    def __init__(
        self,
        exports: Sequence[ExportFile],
        watch: ChangeWatch,
        *,
        strip: bool,
        notes: tuple[str, ...],
        places: Sequence[Location] | None = None,
    ) -> None:
        """Read `exports`; `places` are their files and those that hold no byte, by default none.

        `watch` tells whether a file changes while it is read.
        """
        self._exports = exports
        self._watch = watch
        self._places = [export.place for export in exports] if places is None else places
        self._uids: Counter[str] = Counter()
        self._strip = strip
        self.notes = notes
        self.sizes: Mapping[str, int | None] = {
            export.place.name: export.place.size for export in exports
        }
        sizes = [export.place.size for export in exports]
        self._bytes = None if None in sizes else sum(size or 0 for size in sizes)
        self._bytes_read = self.uids_read = 0
        files = [{"file": export.place.address, **export.reading} for export in exports]
        self.identity: Mapping[str, Any] = {"files": files, "strip": strip}

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """What each file is, those without a byte too. See `Source.files`."""
        return tuple(
            # A store that does not know a time gives the first moment of 1970.
            SourceFile(place.name, place.size, place.written_utc_ns or None, self._uids[place.name])
            for place in self._places
        )

    @property
    def share_read(self) -> float | None:
        """How far into the stored bytes reading has come. See `Source.share_read`."""
        return min(1.0, self._bytes_read / self._bytes) if self._bytes else None

    def blocks(self) -> Iterator[Block]:
        """Read every file from its start, in order. See `Source.blocks`.

        A block of files is released once the next one has been read, or the end of its file has
        been checked: of a file that changes meanwhile, the cut-off record at its end is never seen.
        What passes through a pipe does not change, and is released at once.
        """
        holds_back = any(export.place.state for export in self._exports)
        held: Block | None = None
        self.uids_read = 0
        self._uids.clear()
        skipped: Counter[str] = Counter()
        try:
            for block in self._read_all():
                self.uids_read += len(block.uids)
                self._uids[block.file] += len(block.uids)
                if not self.uids_read:
                    skipped.update(_reasons(block))
                if held is not None:
                    yield held
                held = block if holds_back else None
                if not holds_back:
                    yield block
        except ChangedWhileReadError:
            raise
        except SourceError:
            if held is not None:
                yield held
            raise
        if held is not None:
            yield held
        if not self.uids_read:
            raise empty(list(self.sizes), skipped)

    def _read_all(self) -> Iterator[Block]:
        bytes_before = 0
        for export in self._exports:
            yield from self._read(export, bytes_before)
            bytes_before += export.place.size or 0
            self._bytes_read = bytes_before
        self._watch.check_all()

    def _read(self, export: ExportFile, bytes_before: int) -> Iterator[Block]:
        place = export.place
        first_record = 1
        try:
            with closing(place.open()) as file:
                for rows in self._rows(export, file):
                    block = settle(
                        rows, file=place.name, first_record=first_record, strip=self._strip
                    )
                    first_record += block.records
                    if place.size is not None:
                        self._bytes_read = bytes_before + file.tell()
                    yield block
        except READ_ERRORS as error:
            if not isinstance(error, FileNotFoundError):
                self._watch.check(place)  # A file that is cut off cannot be read to its end.
            raise unreadable(place.name, error) from error

    def _rows(self, export: ExportFile, file: OpenFile) -> Iterator[RawRows]:
        reading = export.read(file)
        is_ended = yield from self._checked(export.place, reading)
        self._watch.check_end(export.place, is_ended=is_ended)

    def _checked(
        self, place: Location, reading: Generator[RawRows, None, bool]
    ) -> Generator[RawRows, None, bool]:
        """Check the file as it is read, where that takes no time."""
        while True:
            try:
                rows = next(reading)
            except StopIteration as end:
                return bool(end.value)
            if place.is_quick_to_check:
                self._watch.check(place)
            yield rows


def _reasons(block: Block) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rows in block.skipped:
        counts[rows.reason] = counts.get(rows.reason, 0) + rows.count
    return counts


def empty(
    names: Sequence[str], skipped: Mapping[str, int] = MappingProxyType({})
) -> EmptyExportError:
    """Say that an export holds nothing to send, and why its rows did not count."""
    where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    rows = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
    found = f" ({counted(sum(skipped.values()), 'row')} read: {rows})" if rows else ""
    hint = "look at what writes the export"
    if NOT_UTF8 in skipped:
        hint = "is it in another encoding? iconv -f latin1 -t UTF-8 converts Latin-1"
    return EmptyExportError(f"{where}: nothing to send, no row holds a uid{found}", hint=hint)
