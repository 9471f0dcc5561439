"""Inspects the start of one file: its compression, its format, and its column of uids."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from engine.source.files.file_source import ExportFile
from engine.source.files.locations import Location
from engine.source.files.pipe import Pipe
from engine.source.formats.columns import columns_of, is_header_only
from engine.source.formats.compression import MAGIC_SIZE, compression_of, decompressed
from engine.source.formats.delimited import delimited_rows
from engine.source.formats.detection import DELIMITERS, declared_format, format_of
from engine.source.formats.file_start import FileStart
from engine.source.formats.ndjson import field_of, ndjson_rows
from engine.source.formats.parquet import parquet_column, parquet_rows
from engine.source.formats.rows import READ_SIZE, RawRows
from engine.source.formats.text import text_rows
from engine.source.options import Format, ReadingOptions
from engine.source.streams import OpenFile, PrefixedFile, Stream
from engine.source.temporary import close_quietly, make_copy, translated_copy_errors

_LINE_ENDS = (b"\n", b"\r", b"")


def inspect_file(location: Location, options: ReadingOptions) -> ExportFile | None:
    """Return how a file is read; None if it holds no byte.

    Raises `SourceError` or `UsageError` for what it holds, and `READ_ERRORS` where it cannot be
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
    """Return the options in effect for a file that is read as a stream, and its reader."""
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


class _LastByte:
    """A stream that remembers its last byte."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.last_byte = b""

    def read(self, size: int, /) -> bytes:
        """Read on."""
        chunk = self._stream.read(size)
        self.last_byte = chunk[-1:] or self.last_byte
        return chunk


def _parquet_export(location: Location, codec: str | None, options: ReadingOptions) -> ExportFile:
    """Inspect a Parquet file; it is read from its end, and so copied where it cannot seek."""
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
