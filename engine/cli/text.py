"""Makes external text safe for csv and JSON; formats tables and wrapped lines."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from math import ceil

from engine.model.foreign_text import UNSAFE, printable


def json_safe(text: str) -> str:
    r"""Return a JSON text with each unsafe character as the equivalent JSON escape.

    Outside its strings, `text` has no white space other than the space.
    """
    return UNSAFE.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def csv_cell(value: object) -> object:
    r"""Return a cell that is safe in spreadsheets and terminals; numbers are unchanged.

    Unsafe characters and backslashes become Python escapes. A cell that a spreadsheet would read as
    a formula, or that begins with an apostrophe, gets an apostrophe in front. To restore the text,
    remove one apostrophe, then decode the escapes.
    """
    if not isinstance(value, str):
        return value
    text = printable(value.replace("\\", "\\\\"))
    return f"'{text}" if text.startswith(_FORMULA) else text


_FORMULA = ("=", "+", "-", "@", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of a formula, also in full width, and the apostrophe of an escaped cell."""


def table_lines(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    numbers: Collection[str],
    width: int | None = None,
    *,
    keeps_words: bool = False,
) -> Iterator[str]:
    """Yield the lines of a table; the columns `numbers` are aligned right.

    If the table is wider than `width` columns, a row continues in further lines; `keeps_words` as
    for `wrapped`.
    """
    from rich.cells import cell_len

    cells = [list(headings)]
    cells += [["" if value is None else printable(str(value)) for value in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    starts = _line_starts(widths, width)
    for row in cells:
        padded = []
        for heading, cell, room in zip(headings, row, widths, strict=True):
            blanks = " " * (room - cell_len(cell))
            padded.append(blanks + cell if heading in numbers else cell + blanks)
        for first, end in zip(starts, [*starts[1:], len(row)], strict=True):
            line = "  ".join(padded[first:end]).rstrip()
            if line or not first:
                shown = f"{_INDENT}{line}" if first else line
                yield from wrapped(shown, width, _INDENT, keeps_words=keeps_words)


def duration(seconds: float) -> str:
    """Return a duration: `2.1 s`, `4:05` minutes or `3:20:00` hours."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


_MINUTE = 60


def clock_duration(seconds: float | None) -> str:
    """Return a duration to the second, rounded up: `0:12` or `3:20:00`; None is unknown."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(ceil(max(0.0, seconds)), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def compact(count: float) -> str:
    """Return a number in at most 6 characters: `9,999`, `12.3 k`, `1.2 M`, `100 M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= (size if size > _KILO else 10 * size):
            share = count / size
            return f"{share:.1f} {unit}" if share < _KILO / 10 - 0.05 else f"{share:.0f} {unit}"
    return f"{count:,.0f}"


_KILO = 1e3


def shortened(text: str, width: int | None) -> str:
    """Return a text cut to a number of columns, with an ellipsis; None does not cut it."""
    from rich.cells import cell_len, set_cell_size

    if width is None or cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…"


_INDENT = " " * 4


def _line_starts(widths: Sequence[int], width: int | None) -> list[int]:
    """Return the first column of each line of a row."""
    starts, used = [0], 0
    for column, room in enumerate(widths):
        if column and width is not None and used + room > width:
            starts.append(column)
            used = len(_INDENT)
        used += room + 2
    return starts


def wrapped(
    line: str, width: int | None, indent: str = "", *, keeps_words: bool = False
) -> Iterator[str]:
    """Yield a line in pieces of at most `width` columns; further pieces begin with `indent`.

    The line is broken at spaces. It is broken within `backticks` only if a command is longer than a
    line. It is broken within a word only if the word is longer than a line, after a slash if there
    is one. A line that is a command has a backslash at each break, so that a shell takes it.

    With `keeps_words`, none of these is broken: what is longer is a piece of its own.
    """
    if width is None or len(line) <= width // 2:  # A character takes at most two columns.
        yield line
    elif keeps_words:
        yield from _pieces(line, width, indent, keeps_words=True)
    elif line.lstrip().startswith("cohortsync ") and width > len(_CONTINUED):
        *pieces, last = _pieces(line, width - len(_CONTINUED), indent)
        yield from (f"{piece}{_CONTINUED}" for piece in pieces)
        yield last
    else:
        yield from _pieces(line, width, indent)


_CONTINUED = " \\"


def _pieces(line: str, width: int, indent: str, *, keeps_words: bool = False) -> Iterator[str]:
    from rich.cells import cell_len

    piece, text = "", line.lstrip(" ")
    lead = line[: len(line) - len(text)]
    is_command = keeps_words and text.startswith("cohortsync ")
    for words in (text,) if is_command else _WORD.split(text):
        is_long = len(indent) + cell_len(words) > width and not keeps_words
        for word in words.split(" ") if is_long else (words,):
            longer = f"{piece} {word}" if piece else lead + word
            # A word that no line can hold begins on this one, if that is at most half full.
            is_split = cell_len(indent + word) > width and cell_len(piece) <= width // 2
            if piece.strip() and cell_len(longer) > width and not is_split:
                yield piece.rstrip()
                longer = indent + word.lstrip()
            while cell_len(longer) > width and not keeps_words:
                end = _break_of(longer, width, least=len(indent))
                yield longer[:end]
                longer = indent + longer[end:]
            piece = longer
    yield piece.rstrip()


_WORD = re.compile(r"(?<=\S) (?=[^`]*(?:`[^`]*`[^`]*)*$)")
"""The space before a word: an even number of backticks follows."""


def _break_of(text: str, width: int, least: int) -> int:
    """Return the index to break a text without spaces that is wider than `width` columns."""
    from rich.cells import cell_len

    end = width
    while cell_len(text[:end]) > width:
        end -= 1
    slash = text.rfind("/", least + 1, end) + 1
    return slash or max(end, least + 1)
