"""From what the command line names to a source, with a look at every file before any request."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.clock import Clock
from engine.errors import SourceError, UsageError
from engine.source.files.change_detector import ChangeDetector
from engine.source.files.file_kinds import GUESSED, UNKNOWN, kind_by_name, refuse_mixture
from engine.source.files.file_source import READ_ERRORS, ExportFile, FileSource, empty
from engine.source.files.local import unreadable
from engine.source.files.locations import Location, Pipe, find_locations
from engine.source.formats.columns import columns_of, is_header_only
from engine.source.formats.compression import MAGIC_SIZE, compression_of, decompressed
from engine.source.formats.delimited import delimited_rows
from engine.source.formats.detection import DELIMITERS, declared_format, format_of
from engine.source.formats.file_start import FileStart
from engine.source.formats.lines import OpenFile, PrefixedFile, Stream
from engine.source.formats.ndjson import ndjson_rows
from engine.source.formats.ndjson_field import field_of
from engine.source.formats.parquet import parquet_column, parquet_rows
from engine.source.formats.rows import READ_SIZE, RawRows
from engine.source.formats.text import text_rows
from engine.source.options import Format, ReadingOptions
from engine.source.temporary import temporary_file, translated_copy_errors


def open_source(
    exports: Sequence[str],
    options: ReadingOptions,
    *,
    keeps_pipes: bool = False,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> FileSource:
    """Find the files of an export and see that they can be read, from the start of each.

    `exports` are files, globs, folders, URLs or `-`. A pipe can be read once, or again and again
    with `keeps_pipes`, for which it is copied, beyond a few megabytes to a temporary file. The
    `clock` tells how young a file is, and `sleep` waits: for a young file to grow, and before a
    remote read is tried again.

    Raises `SourceError` for what is missing, unreadable, empty or in no format known, for a missing
    column and for one that cannot hold uids; `UsageError` for what only the user can decide, such
    as which of several columns.
    """
    locations, notes, groups = find_locations(exports, sleep)
    pipes = [
        location for location in locations if isinstance(location, Pipe) and location.state is None
    ]
    names = {name for pipe in pipes for name in (pipe.name, pipe.address)}
    files = [export for export in exports if export not in names]
    watch = ChangeDetector(locations, lambda: find_locations(files)[0], clock, sleep)
    for location in locations:
        if isinstance(location, Pipe):
            location.is_kept = keeps_pipes
    looked_at: dict[str, ExportFile | None] = {}
    for number, group in enumerate(groups):
        looks = _inspect_group(group, options, watch, formats_may_differ=number == 0)
        looked_at.update(zip((location.address for location in group), looks, strict=True))
    found = [looked_at[location.address] for location in locations]
    if all(export is None or export.is_empty for export in found):
        raise empty([location.name for location in locations])
    readable = [export for export in found if export is not None]
    notes += tuple(
        f"{location.name}: is empty"
        for location, export in zip(locations, found, strict=True)
        if not export
    )
    formats = {export.reading["format"] for export in readable}
    notes += tuple(
        f"{export.location.name}: read as text, a uid a line, its first line too; --format csv if "
        "that is a header"
        for export in readable
        if export.reading["format"] == "text"
        and declared_format(export.location.name, options) is None
    )[:1]
    if not options.header and not formats & {"csv", "tsv"}:
        notes += ("--no-header is ignored: only csv and tsv have a header",)
    return FileSource(readable, watch, strip=options.strip, notes=notes, locations=locations)


def _inspect_group(
    locations: Sequence[Location],
    options: ReadingOptions,
    watch: ChangeDetector,
    *,
    formats_may_differ: bool,
) -> list[ExportFile | None]:
    """Find out how the files of one group are read, and refuse a mixture of kinds."""
    refuse = partial(refuse_mixture, formats_may_differ=formats_may_differ)
    kinds = {
        location.name: kind
        for location in locations
        if location.size != 0 and (kind := kind_by_name(location.name))
    }
    refuse(kinds)
    found: list[ExportFile | None] = []
    for location in locations:
        try:
            export = _inspect(location, options, watch)
        except (SourceError, UsageError) as error:
            is_unreadable = isinstance(error.__cause__, OSError)
            is_for_good = error.exit_status is SourceError.exit_status
            if location.name not in kinds and is_for_good and not is_unreadable:
                refuse({**kinds, location.name: UNKNOWN})
            raise
        found.append(export)
        if export is not None and location.name not in kinds:
            kinds[location.name] = _kind(export, options)
    refuse(kinds)
    return found


def _kind(export: ExportFile, options: ReadingOptions) -> str:
    """Return what kind of file one is whose name does not tell."""
    if options.format != "auto":
        return UNKNOWN
    format_: str = export.reading["format"]
    return GUESSED if format_ == "text" else format_


def _inspect(
    location: Location, options: ReadingOptions, watch: ChangeDetector
) -> ExportFile | None:
    """Find out how one file is read; None where it holds no byte."""
    try:
        export = _inspect_file(location, options)
    except READ_ERRORS as error:
        if location.is_quick_to_check and not isinstance(error, FileNotFoundError):
            watch.check(location)
        raise unreadable(location.name, error) from error
    if location.is_quick_to_check:
        watch.check(location)
    return export


def _inspect_file(location: Location, options: ReadingOptions) -> ExportFile | None:
    with closing(location.open()) as file:
        start = b""
        while len(start) < MAGIC_SIZE and (chunk := file.read(MAGIC_SIZE - len(start))):
            start += chunk
        codec = compression_of(start)
        head = FileStart(decompressed(PrefixedFile(start, file), codec))
        head.read_first_line()
        if head.complete and not head.text and declared_format(location.name, options) != "parquet":
            return None
        format_ = format_of(location.name, head, options)
        if format_ == "parquet":
            return _parquet(location, codec, options)
        reading, read = _layout(location.name, head, format_, options)
        is_empty = format_ in DELIMITERS and is_header_only(head, DELIMITERS[format_], options)
    reading = {"format": format_, **reading}
    return ExportFile(location, reading, _Decompressing(read, codec), is_empty=is_empty)


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
    name: str, head: FileStart, format_: Format, options: ReadingOptions
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


def _parquet(location: Location, codec: str | None, options: ReadingOptions) -> ExportFile:
    """Look at a Parquet file, which is read from its end, and so copied where it cannot seek."""
    is_copied = codec is not None or not location.is_seekable
    if isinstance(location, Pipe):
        location.is_kept = True  # This look goes through all of it.
    with closing(location.open()) as file, _seekable(file, codec, is_copied=is_copied) as whole:
        column, rows = parquet_column(location.name, whole, options.column)
    reading = {"format": "parquet", "column": column}
    read = partial(_parquet_rows, column=column, codec=codec, is_copied=is_copied)
    return ExportFile(location, reading, read, is_empty=not rows)


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
            with translated_copy_errors():
                copy.write(chunk)
        with translated_copy_errors():
            copy.seek(0)
        yield copy
