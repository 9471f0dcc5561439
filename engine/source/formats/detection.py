"""What a file holds: by its suffix, then by its content."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from engine.errors import SourceError, UsageError
from engine.source.formats.columns import has_column
from engine.source.formats.compression import SUFFIXES as COMPRESSED
from engine.source.formats.file_start import FileStart
from engine.source.formats.ndjson_field import first_object, has_field, object_in
from engine.source.formats.recognition import (
    SAMPLE_BYTES,
    SAVED_PAGE,
    is_binary,
    recognize_content,
    recognize_likely_content,
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
_PARQUET = b"PAR1"
_TELLING = {b"\t": "tsv", b",": "csv", b"{": "ndjson"}
_QUOTED = re.compile(rb'"[^"]*"')
_ERROR_FIELDS = {"error", "errors", "fault", "exception", "errorcode", "errormessage"}
_ERROR_FIELDS |= {"error_code", "error_message", "error_description", "message", "detail"}
_REASON_FIELDS = {"reason", "msg"}
"""Fields that tell of an error where nothing says that the file is ndjson."""


def format_of(name: str, head: FileStart, options: ReadingOptions) -> Format:
    """Return the format of the file whose start is in `head`.

    Content decides for a suffix that tells nothing: Parquet by its magic, ndjson by a first `{`,
    csv and tsv by a first line that names the column asked for, text by one without a comma,
    semicolon, tab, bar or quote. The first line decides for text too where a column is asked for,
    as text has none. Raises `UsageError` where that leaves it open, `SourceError` for content that
    is none of the formats, whatever suffix or `--format` say of it.
    """
    wanted = options.format
    format_: Format | None
    chosen = declared_format(name, options)
    if head.data.startswith(_PARQUET) and is_binary(head.data):
        if chosen in {"parquet", None}:
            return "parquet"
        hint = "--format parquet" if wanted == "auto" else "leave --format out"
        raise SourceError(f"{name}: holds Parquet, not {chosen}", hint=hint)
    if foreign := recognize_content(head.data):
        raise SourceError(f"{name}: {foreign.fault}", hint=foreign.hint)
    if chosen == "parquet":
        return chosen
    _refuse_error_message(name, head, options)
    format_ = chosen
    named = _by_column(head, options) if wanted == "auto" else None
    if wanted == "auto" and chosen in {"text", None}:
        format_ = named or chosen or _by_start(head)
    if wanted == "auto" and format_ != "ndjson":
        _refuse_likely(name, head, format_, anywhere=named is None)
    format_ = format_ or _text_by_content(name, head)
    if format_ == "text" and options.column is not None:
        raise UsageError(
            f"{name}: text has no columns, and so no {options.column!r}",
            hint=_other_format(head, options),
        )
    _refuse_bare_returns(name, head.text, format_)
    return format_


def declared_format(name: str, options: ReadingOptions) -> Format | None:
    """Return the format that `--format` or a file's suffix tells; None leaves it to content."""
    return suffix_format(name) if options.format == "auto" else options.format


def suffix_format(name: str) -> Format | None:
    """Return the format that a file's suffix tells."""
    return _BY_SUFFIX.get(suffix(name))


def suffix(name: str) -> str:
    """Return a file's suffix in lower case, that of compression left out."""
    path = PurePosixPath(path_of(name).lower())
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


def _by_column(head: FileStart, options: ReadingOptions) -> Format | None:
    """Return the format in which the first line names the column asked for."""
    if options.column is None:
        return None
    for format_, delimiter in DELIMITERS.items():
        if options.header and has_column(head, delimiter, options.column):
            return format_
    found = first_object(head)
    return "ndjson" if found is not None and has_field(found, options.column) else None


def _by_start(head: FileStart) -> Format | None:
    return "ndjson" if head.text.lstrip().startswith((b"{", b"[")) else None


def _text_by_content(name: str, head: FileStart) -> Format:
    if any(mark in _first_line(head) for mark in b',;\t|"'):
        hint = "--format text|csv|tsv|ndjson|parquet"
        raise UsageError(f"{name}: neither name nor content tells the format", hint=hint)
    return "text"


def _first_line(head: FileStart) -> bytes:
    return head.text.lstrip().partition(b"\n")[0]


def _other_format(head: FileStart, options: ReadingOptions) -> str:
    """Return what to do where text is asked for a column, by its first line."""
    line = _first_line(head)
    found = next((other for mark, other in _TELLING.items() if mark in line), "csv|tsv|ndjson")
    if found == "csv|tsv|ndjson" and (
        mark := next((m for m in (";", "|") if m.encode() in line), "")
    ):
        return f"{mark!r} is not read as a delimiter: export with commas or tabs"
    instead = "instead" if options.format == "text" else "if it has"
    return f"--format {found} {instead}; without --column each line is a uid"


def _refuse_likely(name: str, head: FileStart, format_: Format | None, *, anywhere: bool) -> None:
    foreign = recognize_likely_content(head.data, anywhere=anywhere)
    if foreign is None:
        return
    hint = f"--format {format_ or 'text'} reads it all the same"
    hint = f"{foreign.hint}; {hint}" if foreign.hint else hint
    raise SourceError(f"{name}: {foreign.fault}", hint=hint)


def _refuse_error_message(name: str, head: FileStart, options: ReadingOptions) -> None:
    """Refuse a file that is nothing but an error that some service answered in JSON."""
    undeclared = declared_format(name, options) is None
    start = head.text.lstrip()
    if not start.startswith(b"{") or _is_record(first_object(head), options, undeclared=undeclared):
        return
    while len(head.data) < SAMPLE_BYTES and head.extend():
        pass
    found = object_in(head.text) if head.complete else None
    if found is not None and not _is_record(found, options, undeclared=undeclared):
        raise SourceError(f"{name}: is an error message in JSON, not an export", hint=SAVED_PAGE)


def _is_record(
    found: Mapping[str, Any] | None, options: ReadingOptions, *, undeclared: bool
) -> bool:
    """Tell an object of an export from one that tells of an error.

    `undeclared` says that neither suffix nor `--format` tell the format.
    """
    if found is None:
        return False
    if options.column is not None and has_field(found, options.column):
        return True
    fields = _ERROR_FIELDS
    if undeclared and options.column is None:
        fields = fields | _REASON_FIELDS
    return not fields & {key.lower() for key, value in found.items() if value}


def _refuse_bare_returns(name: str, text: bytes, format_: Format) -> None:
    """Refuse a file whose lines end in what no format here takes for a line end."""
    if b"\r" not in text:
        return
    text = _QUOTED.sub(b"", text) if format_ in DELIMITERS else text
    line_feeds = text.count(b"\n")
    doubled = text.count(b"\r\r\n")
    if text.count(b"\r") - text.count(b"\r\n") > line_feeds:
        raise SourceError(
            f"{name}: its lines end with a carriage return alone",
            hint="convert it: tr '\\r' '\\n' < FILE",
        )
    if doubled and doubled == line_feeds:
        raise SourceError(
            f"{name}: its lines end with two carriage returns and a line feed",
            hint="convert it: tr -d '\\r' < FILE",
        )
