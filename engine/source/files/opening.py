"""From what the command line names to a source, with a look at every file before any request."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.clock import Clock
from engine.errors import SourceError, UsageError
from engine.source.files.change_detector import ChangeWatch
from engine.source.files.file_kinds import GUESSED, UNKNOWN, kind_by_name, refuse_mixture
from engine.source.files.file_source import READ_ERRORS, ExportFile, ExportSource, empty
from engine.source.files.local import unreadable
from engine.source.files.locations import Location, Pipe, find_places
from engine.source.formats.columns import columns_of, is_header_only
from engine.source.formats.compression import MAGIC_SIZE, compression_of, decompressed
from engine.source.formats.delimited import delimited_rows
from engine.source.formats.detection import DELIMITERS, format_of, told_format
from engine.source.formats.file_start import Head
from engine.source.formats.lines import OpenFile, Replay, Stream
from engine.source.formats.ndjson import ndjson_rows
from engine.source.formats.ndjson_field import field_of
from engine.source.formats.parquet import parquet_column, parquet_rows
from engine.source.formats.rows import READ_SIZE, RawRows
from engine.source.formats.text import text_rows
from engine.source.options import Format, ReadingOptions
from engine.source.temporary import temporary_file, told_of_tmpdir


def open_source(
    exports: Sequence[str],
    options: ReadingOptions,
    *,
    keeps_pipes: bool = False,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> ExportSource:
    """Find the files of an export and see that they can be read, from the start of each.

    `exports` are files, globs, folders, URLs or `-`. A pipe can be read once, or again and again
    with `keeps_pipes`, for which it is copied, beyond a few megabytes to a temporary file. The
    `clock` tells how young a file is, and `sleep` waits: for a young file to grow, and before a
    remote read is tried again.

    Raises `SourceError` for what is missing, unreadable, empty or in no format known, for a missing
    column and for one that cannot hold uids; `UsageError` for what only the user can decide, such
    as which of several columns.
    """
    places, notes, groups = find_places(exports, sleep)
    pipes = [place for place in places if isinstance(place, Pipe) and place.state is None]
    names = {name for pipe in pipes for name in (pipe.name, pipe.address)}
    files = [export for export in exports if export not in names]
    watch = ChangeWatch(places, lambda: find_places(files)[0], clock, sleep)
    for place in places:
        if isinstance(place, Pipe):
            place.is_kept = keeps_pipes
    looked_at: dict[str, ExportFile | None] = {}
    for number, group in enumerate(groups):
        looks = _look_at_all(group, options, watch, formats_may_differ=number == 0)
        looked_at.update(zip((place.address for place in group), looks, strict=True))
    found = [looked_at[place.address] for place in places]
    if all(export is None or export.is_empty for export in found):
        raise empty([place.name for place in places])
    readable = [export for export in found if export is not None]
    notes += tuple(
        f"{place.name}: is empty" for place, export in zip(places, found, strict=True) if not export
    )
    formats = {export.reading["format"] for export in readable}
    notes += tuple(
        f"{export.place.name}: read as text, a uid a line, its first line too; --format csv if "
        "that is a header"
        for export in readable
        if export.reading["format"] == "text" and told_format(export.place.name, options) is None
    )[:1]
    if not options.header and not formats & {"csv", "tsv"}:
        notes += ("--no-header is ignored: only csv and tsv have a header",)
    return ExportSource(readable, watch, strip=options.strip, notes=notes, places=places)


def _look_at_all(
    places: Sequence[Location],
    options: ReadingOptions,
    watch: ChangeWatch,
    *,
    formats_may_differ: bool,
) -> list[ExportFile | None]:
    """Find out how the files of one group are read, and refuse a mixture of kinds."""
    refuse = partial(refuse_mixture, formats_may_differ=formats_may_differ)
    kinds = {
        place.name: kind
        for place in places
        if place.size != 0 and (kind := kind_by_name(place.name))
    }
    refuse(kinds)
    found: list[ExportFile | None] = []
    for place in places:
        try:
            export = _look_at(place, options, watch)
        except (SourceError, UsageError) as error:
            is_unreadable = isinstance(error.__cause__, OSError)
            is_for_good = error.exit_status is SourceError.exit_status
            if place.name not in kinds and is_for_good and not is_unreadable:
                refuse({**kinds, place.name: UNKNOWN})
            raise
        found.append(export)
        if export is not None and place.name not in kinds:
            kinds[place.name] = _kind(export, options)
    refuse(kinds)
    return found


def _kind(export: ExportFile, options: ReadingOptions) -> str:
    """Return what kind of file one is whose name does not tell."""
    if options.format != "auto":
        return UNKNOWN
    format_: str = export.reading["format"]
    return GUESSED if format_ == "text" else format_


def _look_at(place: Location, options: ReadingOptions, watch: ChangeWatch) -> ExportFile | None:
    """Find out how one file is read; None where it holds no byte."""
    try:
        export = _looked_at(place, options)
    except READ_ERRORS as error:
        if place.is_quick_to_check and not isinstance(error, FileNotFoundError):
            watch.check(place)
        raise unreadable(place.name, error) from error
    if place.is_quick_to_check:
        watch.check(place)
    return export


def _looked_at(place: Location, options: ReadingOptions) -> ExportFile | None:
    with closing(place.open()) as file:
        start = b""
        while len(start) < MAGIC_SIZE and (chunk := file.read(MAGIC_SIZE - len(start))):
            start += chunk
        codec = compression_of(start)
        head = Head(decompressed(Replay(start, file), codec))
        head.read_first_line()
        if head.complete and not head.text and told_format(place.name, options) != "parquet":
            return None
        format_ = format_of(place.name, head, options)
        if format_ == "parquet":
            return _parquet(place, codec, options)
        reading, read = _layout(place.name, head, format_, options)
        is_empty = format_ in DELIMITERS and is_header_only(head, DELIMITERS[format_], options)
    reading = {"format": format_, **reading}
    return ExportFile(place, reading, _Decompressing(read, codec), is_empty=is_empty)


@dataclass(frozen=True, slots=True)
class _Decompressing:
    """A reader of plain bytes as one of a stored file."""

    read: Callable[[Stream], Iterator[RawRows]]
    codec: str | None

    def __call__(self, file: OpenFile) -> Generator[RawRows, None, bool]:
        stream = _LastByte(decompressed(file, self.codec))
        yield from self.read(stream)
        return stream.last_byte in _LINE_ENDS


_LINE_ENDS = (b"\n", b"\r", b"")


class _LastByte:
    """A stream that knows what its last byte was."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.last_byte = b""

    def read(self, size: int, /) -> bytes:
        """Read on."""
        chunk = self._stream.read(size)
        self.last_byte = chunk[-1:] or self.last_byte
        return chunk


def _layout(
    name: str, head: Head, format_: Format, options: ReadingOptions
) -> tuple[Mapping[str, Any], Callable[[Stream], Iterator[RawRows]]]:
    """Return the options in effect for a file that is read as a stream, and its reader."""
    if format_ == "text":
        return {}, text_rows
    if format_ == "ndjson":
        field = field_of(name, head, options.column)
        return {"column": field}, partial(ndjson_rows, column=field)
    columns, column = columns_of(name, head, DELIMITERS[format_], options)
    reading = {"column": column, "header": columns.header}
    return reading, partial(delimited_rows, columns=columns)


def _parquet(place: Location, codec: str | None, options: ReadingOptions) -> ExportFile:
    """Look at a Parquet file, which is read from its end, and so copied where it cannot seek."""
    is_copied = codec is not None or not place.is_seekable
    if isinstance(place, Pipe):
        place.is_kept = True  # This look goes through all of it.
    with closing(place.open()) as file, _seekable(file, codec, is_copied=is_copied) as whole:
        column, rows = parquet_column(place.name, whole, options.column)
    reading = {"format": "parquet", "column": column}
    read = partial(_parquet_rows, column=column, codec=codec, is_copied=is_copied)
    return ExportFile(place, reading, read, is_empty=not rows)


def _parquet_rows(
    file: OpenFile, *, column: str, codec: str | None, is_copied: bool
) -> Generator[RawRows, None, bool]:
    with _seekable(file, codec, is_copied=is_copied) as whole:
        yield from parquet_rows(whole, column)
    return True


@contextmanager
def _seekable(file: OpenFile, codec: str | None, *, is_copied: bool) -> Iterator[OpenFile]:
    """Lend the file itself, or a copy of its plain bytes in a temporary file."""
    if not is_copied:
        yield file
        return
    stream = decompressed(file, codec)
    with temporary_file() as copy:
        while chunk := stream.read(READ_SIZE):
            with told_of_tmpdir():
                copy.write(chunk)
        with told_of_tmpdir():
            copy.seek(0)
        yield copy
