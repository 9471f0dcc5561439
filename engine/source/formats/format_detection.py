"""Detects the format of a file by its suffix, then by its content; refuses what is no export."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import PurePosixPath
from typing import Any

from engine.errors import SourceError, UsageError
from engine.source.formats.columns import has_column
from engine.source.formats.compression import SUFFIXES as COMPRESSED
from engine.source.formats.lines import FileStart
from engine.source.formats.ndjson import first_object, has_field, object_in
from engine.source.formats.unsupported_content import (
    SAMPLE_BYTES,
    SAVED_PAGE,
    is_binary,
    likely_unsupported_content,
    unsupported_content,
)
from engine.source.options import Format, ReadingOptions
from engine.source.urls import path_of

_BY_SUFFIX: dict[str, Format] = {
    **dict.fromkeys((".txt", ".text", ".list", ".uids"), "text"),
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".ndjson", ".jsonl", ".ldjson"), "ndjson"),
    **dict.fromkeys((".parquet", ".parq", ".pq"), "parquet"),
}
DELIMITERS: Mapping[Format, bytes] = {"csv": b",", "tsv": b"\t"}
_PARQUET_MAGIC = b"PAR1"
_BY_MARK = {b"\t": "tsv", b",": "csv", b"{": "ndjson"}
_QUOTED = re.compile(rb'"[^"]*"')
_ERROR_FIELDS = {"error", "errors", "fault", "exception", "errorcode", "errormessage"}
_ERROR_FIELDS |= {"error_code", "error_message", "error_description", "message", "detail"}
_REASON_FIELDS = {"reason", "msg"}
"""More fields of an error message; they count in a file that is not declared as ndjson."""


def format_of(name: str, start: FileStart, options: ReadingOptions) -> Format:
    """Return the format of a file by its name and start.

    Without a suffix of a known format the content decides: Parquet by its magic, ndjson by a first
    `{`, csv and tsv by a first line that names the wanted column, text by a first line without a
    comma, semicolon, tab, bar or quote. If a column is wanted, the content also decides for a
    suffix of text, as text has no columns. Raises `UsageError` if the content does not decide,
    `SourceError` for content in no known format, for any suffix or `--format`.
    """
    wanted = options.format
    format_: Format | None
    chosen = declared_format(name, options)
    if start.data.startswith(_PARQUET_MAGIC) and is_binary(start.data):
        if chosen in {"parquet", None}:
            return "parquet"
        hint = "--format parquet" if wanted == "auto" else "leave --format out"
        raise SourceError(f"{name}: holds Parquet, not {chosen}", hint=hint)
    if content := unsupported_content(start.data):
        raise SourceError(f"{name}: {content.fault}", hint=content.hint)
    if chosen == "parquet":
        return chosen
    _refuse_error_message(name, start, options)
    format_ = chosen
    named = _by_column(start, options) if wanted == "auto" else None
    if wanted == "auto" and chosen in {"text", None}:
        is_json = start.text.lstrip().startswith((b"{", b"["))
        format_ = named or chosen or ("ndjson" if is_json else None)
    if wanted == "auto" and format_ != "ndjson":
        _refuse_likely(name, start, format_, anywhere=named is None)
    format_ = format_ or _text_by_content(name, start)
    if format_ == "text" and options.column is not None:
        hint = _other_format(start, options)
        raise UsageError(f"{name}: text has no columns, and so no {options.column!r}", hint=hint)
    _refuse_bare_returns(name, start.text, format_)
    return format_


def declared_format(name: str, options: ReadingOptions) -> Format | None:
    """Return the format by `--format`, else by the file's suffix; None if neither gives one."""
    return suffix_format(name) if options.format == "auto" else options.format


def suffix_format(name: str) -> Format | None:
    """Return the format by a file's suffix; None for an unknown suffix."""
    return _BY_SUFFIX.get(suffix(name))


def suffix(name: str) -> str:
    """Return a file's suffix in lower case, without the suffix of compression."""
    path = PurePosixPath(path_of(name).lower())
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


def _by_column(start: FileStart, options: ReadingOptions) -> Format | None:
    """Return the format in which the first line names the wanted column."""
    if options.column is None:
        return None
    for format_, delimiter in DELIMITERS.items():
        if options.header and has_column(start, delimiter, options.column):
            return format_
    found = first_object(start)
    return "ndjson" if found is not None and has_field(found, options.column) else None


def _text_by_content(name: str, start: FileStart) -> Format:
    if any(mark in _first_line(start) for mark in b',;\t|"'):
        hint = "--format text|csv|tsv|ndjson|parquet"
        raise UsageError(f"{name}: neither name nor content shows the format", hint=hint)
    return "text"


def _first_line(start: FileStart) -> bytes:
    return start.text.lstrip().partition(b"\n")[0]


def _other_format(start: FileStart, options: ReadingOptions) -> str:
    """Return a hint, by the first line, for a wanted column in a file of text."""
    line = _first_line(start)
    found = next((other for mark, other in _BY_MARK.items() if mark in line), "csv|tsv|ndjson")
    if found == "csv|tsv|ndjson" and (
        mark := next((m for m in (";", "|") if m.encode() in line), "")
    ):
        return f"{mark!r} is not read as a delimiter: export with commas or tabs"
    instead = "instead" if options.format == "text" else "if it has"
    return f"--format {found} {instead}; without --column each line is a uid"


def _refuse_likely(name: str, start: FileStart, format_: Format | None, *, anywhere: bool) -> None:
    content = likely_unsupported_content(start.data, anywhere=anywhere)
    if content is None:
        return
    hint = f"--format {format_ or 'text'} reads it anyway"
    hint = f"{content.hint}; {hint}" if content.hint else hint
    raise SourceError(f"{name}: {content.fault}", hint=hint)


def _refuse_error_message(name: str, start: FileStart, options: ReadingOptions) -> None:
    """Raise `SourceError` for a file that is only a service's error message in JSON."""
    fields = _ERROR_FIELDS
    if declared_format(name, options) is None and options.column is None:
        fields = fields | _REASON_FIELDS
    first = first_object(start)
    if not start.text.lstrip().startswith(b"{") or _is_record(first, options.column, fields):
        return
    while len(start.data) < SAMPLE_BYTES and start.extend():
        pass
    found = object_in(start.text) if start.complete else None
    if found is not None and not _is_record(found, options.column, fields):
        raise SourceError(f"{name}: is an error message in JSON, not an export", hint=SAVED_PAGE)


def _is_record(
    found: Mapping[str, Any] | None, column: str | None, fields: AbstractSet[str]
) -> bool:
    """Return whether an object is a record of an export: it has the column, or none of `fields`."""
    if found is None:
        return False
    if column is not None and has_field(found, column):
        return True
    return not fields & {key.lower() for key, value in found.items() if value}


def _refuse_bare_returns(name: str, text: bytes, format_: Format) -> None:
    """Raise `SourceError` for a file whose line ends no supported format has."""
    if b"\r" not in text:
        return
    text = _QUOTED.sub(b"", text) if format_ in DELIMITERS else text
    line_feeds = text.count(b"\n")
    doubled = text.count(b"\r\r\n")
    if text.count(b"\r") - text.count(b"\r\n") > line_feeds:
        hint = "convert it: tr '\\r' '\\n' < FILE"
        raise SourceError(f"{name}: its lines end with a carriage return alone", hint=hint)
    if doubled and doubled == line_feeds:
        raise SourceError(
            f"{name}: its lines end with two carriage returns and a line feed",
            hint="convert it: tr -d '\\r' < FILE",
        )
