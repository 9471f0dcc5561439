"""Finds the uid column in a csv or tsv file."""

from collections.abc import Sequence
from difflib import get_close_matches

from engine.errors import SourceError, UsageError
from engine.source.formats.csv_dialect import Dialect, Record
from engine.source.formats.delimited import SEP_LINE, Columns
from engine.source.formats.lines import FileStart
from engine.source.formats.rows import RECORD_LIMIT
from engine.source.options import ReadingOptions

_SHOWN = 20


def columns_of(
    name: str, start: FileStart, delimiter: bytes, options: ReadingOptions
) -> tuple[Columns, str]:
    """Read a file's first record; return its columns and the name of the uid column.

    The file has at least one record. Raises `SourceError` if the record cannot be read or lacks the
    column, `UsageError` if the user has to name the column.
    """
    sep = SEP_LINE.match(start.text)
    if sep is not None and sep[1] != delimiter:
        declared = sep[1].decode(errors="replace")
        hint = _DELIMITERS.get(sep[1], f"{declared!r} is not read as a delimiter")
        raise UsageError(f"{name}: its first line says sep={declared}", hint=hint)
    record = _first_record(start, delimiter)
    if record is None or record.fault:
        reason = record.fault if record else "no end"
        raise SourceError(f"{name}: the first record cannot be read ({reason})")
    if options.header:
        names = [field.decode(errors="replace") for field in record.fields]
    else:
        names = [str(number) for number in range(1, len(record.fields) + 1)]
    if options.header and len(names) == 1 and names[0].strip() != (options.column or "").strip():
        _refuse_other_delimiter(name, record.fields[0], delimiter)
    chosen = column_index(name, names, options.column)
    columns = Columns(delimiter, len(names), chosen, options.header, has_sep_line=sep is not None)
    return columns, names[chosen]


def has_column(start: FileStart, delimiter: bytes, wanted: str) -> bool:
    """Return whether the first record of a file has a field with the wanted name."""
    record = _first_record(start, delimiter)
    names = [field.decode(errors="replace") for field in record.fields] if record else []
    return wanted in names or wanted in map(str.strip, names)


def is_header_only(start: FileStart, delimiter: bytes, options: ReadingOptions) -> bool:
    """Return whether the file ends after the header."""
    record = _first_record(start, delimiter) if options.header else None
    if record is None:
        return False
    while record.end == len(start.text) and start.extend():
        pass
    return record.end == len(start.text)


def _first_record(start: FileStart, delimiter: bytes) -> Record | None:
    dialect = Dialect(delimiter, RECORD_LIMIT)
    sep = SEP_LINE.match(start.text)
    first = sep.end() if sep else 0
    while (record := dialect.record(start.text, first, final=start.complete)) is None:
        if not start.extend() and not start.complete:
            return None
    return record


def column_index(file: str, names: Sequence[str], wanted: str | None) -> int:
    """Return the index of the wanted column by its exact name, else by its trimmed name."""
    if wanted is None:
        return names.index(only(file, names))
    for candidates in (list(names), [name.strip() for name in names]):
        if candidates.count(wanted) == 1:
            return candidates.index(wanted)
        if wanted in candidates:
            raise SourceError(
                f"{file}: has {candidates.count(wanted)} columns named {wanted!r}",
                hint="names repeat: --no-header --column N takes the Nth column, and its name as a "
                "uid",
            )
    raise missing(file, names, wanted)


def only(file: str, names: Sequence[str], kind: str = "column") -> str:
    """Return the name of the only column or field; raises `UsageError` if there are several."""
    if len(names) == 1:
        return names[0]
    hint = f"--column NAME, one of {_listed(names)}"
    raise UsageError(f"{file}: has {len(names)} {kind}s; which one holds the uids?", hint=hint)


def missing(file: str, names: Sequence[str], wanted: str, kind: str = "column") -> SourceError:
    """Return the error for a missing column or field, with a similar name as the hint."""
    near = get_close_matches(wanted, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {_listed(names)}"
    return SourceError(f"{file}: has no {kind} {wanted!r}", hint=hint)


def _listed(names: Sequence[str]) -> str:
    """Return the first 20 names in one line."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def _refuse_other_delimiter(file: str, field: bytes, delimiter: bytes) -> None:
    """Raise `UsageError` if the only column's name has another delimiter, as in `uid;name`."""
    for other, remedy in _DELIMITERS.items():
        if other != delimiter and other in field:
            raise UsageError(
                f"{file}: its one column seems to be several, separated by {other.decode()!r}",
                hint=f"{remedy}; pass --column if it is one column",
            )


_DELIMITERS = {
    b",": "--format csv reads commas",
    b";": "';' is not read as a delimiter: export with commas or tabs",
    b"\t": "--format tsv reads tabs",
    b"|": "'|' is not read as a delimiter: export with commas or tabs",
}
"""The hint for each character that other programs use as a delimiter."""
