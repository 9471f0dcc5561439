"""What a file holds: by its suffix, then by its content."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from engine.errors import SourceError, UsageError
from engine.source.compression import SUFFIXES as COMPRESSED
from engine.source.head import Head
from engine.source.header import has_column
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
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"ORC\x0a": "an ORC file",
    b"Obj\x01": "an Avro file",
}


def format_of(name: str, head: Head, options: ReadingOptions) -> Format:
    """Return the format of the file whose start is in `head`.

    Content decides for a suffix that tells nothing: Parquet by its magic, ndjson by a first `{`,
    csv and tsv by a first line that names the column asked for, text by one without a comma,
    semicolon, tab, bar or quote. Raises `UsageError` where
    that leaves it open, `SourceError` for content that is none of the formats.
    """
    wanted = options.format
    chosen = _BY_SUFFIX.get(_suffix(name)) if wanted == "auto" else wanted
    looks_parquet = head.data.startswith(_PARQUET) and b"\0" in head.data[:64]
    if chosen == "parquet" or (looks_parquet and chosen is None):
        return "parquet"
    if looks_parquet:
        hint = "--format parquet" if wanted == "auto" else "leave --format out"
        raise SourceError(f"{name}: holds Parquet, not {chosen}", hint=hint)
    _refuse_foreign(name, head.data)
    return chosen or _by_content(name, head, options)


def is_guess(name: str, options: ReadingOptions) -> bool:
    """Say whether nothing but the content of a file tells its format."""
    return options.format == "auto" and _suffix(name) not in _BY_SUFFIX


def _suffix(name: str) -> str:
    path = PurePosixPath(path_of(name).lower())
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


def _refuse_foreign(name: str, data: bytes) -> None:
    for magic, description in _FOREIGN.items():
        if data.startswith(magic):
            raise SourceError(f"{name}: is {description}, which cannot be read")
    if _is_utf16(data):
        hint = "convert it: iconv -f UTF-16 -t UTF-8"
        raise SourceError(f"{name}: is UTF-16, not UTF-8", hint=hint)


def _is_utf16(data: bytes) -> bool:
    """Tell UTF-16 by its BOM, or by every other byte of the start being zero."""
    start = data[: min(len(data), 64) // 2 * 2]
    high, low = start[0::2], start[1::2]
    halves = (any(high) and not any(low)) or (any(low) and not any(high))
    return data.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(start) > 2 and halves)  # noqa: PLR2004 - one NUL proves nothing


def _by_content(name: str, head: Head, options: ReadingOptions) -> Format:
    start = head.text.lstrip()
    if start.startswith(b"{"):
        return "ndjson"
    if start.startswith(b"["):
        hint = "one object a line is: jq -c '.[]'"
        raise SourceError(f"{name}: a JSON array cannot be read", hint=hint)
    first_line = start.partition(b"\n")[0]
    if options.column is not None and options.header:
        for format_, delimiter in DELIMITERS.items():
            if has_column(head, delimiter, options.column):
                return format_
    if any(mark in first_line for mark in b',;\t|"'):
        hint = "--format text|csv|tsv|ndjson|parquet"
        raise UsageError(f"{name}: neither name nor content tells the format", hint=hint)
    return "text"
