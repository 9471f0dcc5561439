"""Finds the files of an export and inspects each one before anything is sent."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.clock import Clock
from engine.errors import SourceError, UsageError
from engine.source.files.change_detector import ChangeDetector
from engine.source.files.file_groups import GUESSED, UNKNOWN, kind_by_name, refuse_mixture
from engine.source.files.file_source import READ_ERRORS, ExportFile, FileSource
from engine.source.files.finding import find_locations
from engine.source.files.local import unreadable
from engine.source.files.locations import Location, Pipe
from engine.source.formats.columns import columns_of, is_header_only
from engine.source.formats.compression import MAGIC_SIZE, compression_of, decompressed
from engine.source.formats.delimited import delimited_rows
from engine.source.formats.format_detection import DELIMITERS, declared_format, format_of
from engine.source.formats.lines import FileStart
from engine.source.formats.ndjson import field_of, ndjson_rows
from engine.source.formats.parquet import parquet_column, parquet_rows
from engine.source.formats.rows import READ_SIZE, RawRows, no_uids
from engine.source.formats.text import text_rows
from engine.source.options import Format, ReadingOptions
from engine.source.streams import OpenFile, PrefixedFile, Stream
from engine.source.temporary import close_quietly, make_copy, translated_copy_errors

_LINE_ENDS = (b"\n", b"\r", b"")


def open_source(
    exports: Sequence[str],
    options: ReadingOptions,
    *,
    keep_pipes: bool = False,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> FileSource:
    """Find the files of an export, and check from each file's start that it can be read.

    `exports` are files, globs, folders, URLs or `-`. A pipe can be read once. With `keep_pipes` it
    is copied, to a temporary file if it is large, and can be read any number of times. `clock`
    gives the age of files. `sleep` waits for a young file to grow, and before a remote read is
    retried.

    Raises `SourceError` for a file that is missing, unreadable, empty or in no known format, and
    for a column that is missing or cannot hold uids. Raises `UsageError` if only the user can
    decide, as between several columns.
    """
    locations, notes, groups = find_locations(exports, sleep)
    pipes = [each for each in locations if isinstance(each, Pipe)]
    for pipe in pipes:
        pipe.is_kept = keep_pipes
    unchanging = {
        name for pipe in pipes if pipe.state is None for name in (pipe.name, pipe.address)
    }
    files = [export for export in exports if export not in unchanging]
    changes = ChangeDetector(locations, lambda: find_locations(files).locations, clock, sleep)
    inspected: dict[str, ExportFile | None] = {}
    for number, group in enumerate(groups):
        inspected |= _inspect_group(group, options, changes, formats_may_differ=number == 0)
    exports_or_none = [inspected[each.address] for each in locations]
    readable = [export for export in exports_or_none if export is not None]
    if all(export.is_empty for export in readable):
        raise no_uids([each.name for each in locations])
    notes += tuple(f"{each.name}: is empty" for each in locations if not inspected[each.address])
    notes += tuple(_notes(readable, options))
    return FileSource(readable, changes, strip=options.strip, notes=notes, locations=locations)


def _notes(exports: Sequence[ExportFile], options: ReadingOptions) -> Iterator[str]:
    """Yield notes about the formats found."""
    for export in exports:
        name = export.location.name
        if export.options["format"] == "text" and declared_format(name, options) is None:
            yield (
                f"{name}: read as text, a uid a line, its first line too; --format csv if that is "
                "a header"
            )
            break
    formats = {export.options["format"] for export in exports}
    if not options.header and not formats & {"csv", "tsv"}:
        yield "--no-header is ignored: only csv and tsv have a header"


def _inspect_group(
    locations: Sequence[Location],
    options: ReadingOptions,
    changes: ChangeDetector,
    *,
    formats_may_differ: bool,
) -> dict[str, ExportFile | None]:
    """Inspect the files of one group and refuse a mixture of kinds; return them by address."""
    refuse = partial(refuse_mixture, formats_may_differ=formats_may_differ)
    kinds = {
        location.name: kind
        for location in locations
        if location.size != 0 and (kind := kind_by_name(location.name))
    }
    refuse(kinds)
    found: dict[str, ExportFile | None] = {}
    for location in locations:
        try:
            export = _inspect(location, options, changes)
        except (SourceError, UsageError) as error:
            is_unreadable = isinstance(error.__cause__, OSError)
            is_permanent = error.exit_status is SourceError.exit_status
            if location.name not in kinds and is_permanent and not is_unreadable:
                refuse({**kinds, location.name: UNKNOWN})
            raise
        found[location.address] = export
        if export is not None and location.name not in kinds:
            kinds[location.name] = _kind(export, options)
    refuse(kinds)
    return found


def _kind(export: ExportFile, options: ReadingOptions) -> str:
    """Return the kind of a file by its detected format, as its name does not show the kind."""
    if options.format != "auto":
        return UNKNOWN
    format_: str = export.options["format"]
    return GUESSED if format_ == "text" else format_


def _inspect(
    location: Location, options: ReadingOptions, changes: ChangeDetector
) -> ExportFile | None:
    """Inspect one file; check that it did not change meanwhile, if the check is quick."""
    try:
        export = _inspect_start(location, options)
    except READ_ERRORS as error:
        if location.is_quick_to_check and not isinstance(error, FileNotFoundError):
            changes.check(location)
        raise unreadable(location.name, error) from error
    if location.is_quick_to_check:
        changes.check(location)
    return export


def _inspect_start(location: Location, options: ReadingOptions) -> ExportFile | None:
    """Return how to read a file; None if it has zero bytes.

    Raises `SourceError` or `UsageError` for invalid content, and `READ_ERRORS` if it cannot be
    read.
    """
    with closing(location.open()) as file:
        magic = b""
        while len(magic) < MAGIC_SIZE and (chunk := file.read(MAGIC_SIZE - len(magic))):
            magic += chunk
        codec = compression_of(magic)
        start = FileStart(decompressed(PrefixedFile(magic, file), codec))
        start.read_first_line()
        is_parquet = declared_format(location.name, options) == "parquet"
        if start.complete and not start.text and not is_parquet:
            return None
        format_ = format_of(location.name, start, options)
        if format_ == "parquet":
            return _parquet_export(location, codec, options)
        found, read = _layout(location.name, start, format_, options)
        is_empty = format_ in DELIMITERS and is_header_only(start, DELIMITERS[format_], options)
    rows = partial(_stream_rows, read=read, codec=codec)
    return ExportFile(location, {"format": format_, **found}, rows, is_empty=is_empty)


def _layout(
    name: str, start: FileStart, format_: Format, options: ReadingOptions
) -> tuple[Mapping[str, Any], Callable[[Stream], Iterator[RawRows]]]:
    """Return the options in effect for a file read as a stream, and its reader."""
    if format_ == "text":
        return {}, text_rows
    if format_ == "ndjson":
        field = field_of(name, start, options.column)
        return {"column": field}, partial(ndjson_rows, column=field)
    columns, column = columns_of(name, start, DELIMITERS[format_], options)
    found = {"column": column, "header": columns.header}
    return found, partial(delimited_rows, columns=columns)


def _stream_rows(
    file: OpenFile, *, read: Callable[[Stream], Iterator[RawRows]], codec: str | None
) -> Generator[RawRows, None, bool]:
    stream = _LastByte(decompressed(file, codec))
    yield from read(stream)
    return stream.last_byte in _LINE_ENDS


@dataclass
class _LastByte:
    """A stream that remembers its last byte."""

    _stream: Stream
    last_byte: bytes = b""

    def read(self, size: int, /) -> bytes:
        """Read the next bytes."""
        chunk = self._stream.read(size)
        self.last_byte = chunk[-1:] or self.last_byte
        return chunk


def _parquet_export(location: Location, codec: str | None, options: ReadingOptions) -> ExportFile:
    """Inspect a Parquet file; reading starts at its end, so it is copied if it cannot seek."""
    is_copied = codec is not None or not location.is_seekable
    if isinstance(location, Pipe):
        location.is_kept = True  # Inspecting it reads all of it.
    with closing(location.open()) as file, _seekable(file, codec, is_copied=is_copied) as whole:
        column, rows = parquet_column(location.name, whole, options.column)
    read = partial(_parquet_rows, column=column, codec=codec, is_copied=is_copied)
    return ExportFile(location, {"format": "parquet", "column": column}, read, is_empty=not rows)


def _parquet_rows(
    file: OpenFile, *, column: str, codec: str | None, is_copied: bool
) -> Generator[RawRows, None, bool]:
    with _seekable(file, codec, is_copied=is_copied) as whole:
        yield from parquet_rows(whole, column)
    return True


@contextmanager
def _seekable(file: OpenFile, codec: str | None, *, is_copied: bool) -> Iterator[OpenFile]:
    """Yield the file itself, or a temporary copy of its decompressed bytes."""
    if not is_copied:
        yield file
        return
    stream = decompressed(file, codec)
    copy = make_copy()
    try:
        while chunk := stream.read(READ_SIZE):
            with translated_copy_errors():
                copy.write(chunk)
        with translated_copy_errors():
            copy.seek(0)
        yield copy
    finally:
        close_quietly(copy)
