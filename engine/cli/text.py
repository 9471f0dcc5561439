"""Text for people: tables, and control characters made visible."""

from collections.abc import Collection, Iterable, Iterator, Sequence

_CONTROLS = {number: repr(chr(number))[1:-1] for number in (*range(32), *range(127, 160))}


def printable(text: str) -> str:
    r"""Return a line with its control characters as escapes (`\x1b`): a terminal obeys none."""
    return text.translate(_CONTROLS)


def table_lines(
    headings: Sequence[str], rows: Iterable[Sequence[object]], numbers: Collection[str]
) -> Iterator[str]:
    """Yield the lines of a table, as wide as it has to be; the columns `numbers` align right.

    A terminal that is narrower wraps whole lines, so that what one copies stays in one piece.
    """
    from rich.cells import cell_len

    cells = [list(headings)]
    cells += [["" if value is None else printable(str(value)) for value in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = []
        for heading, cell, width in zip(headings, row, widths, strict=True):
            blanks = " " * (width - cell_len(cell))
            padded.append(blanks + cell if heading in numbers else cell + blanks)
        yield "  ".join(padded).rstrip()
