"""`cohortsync source preview`: prints the first rows of an export as a run would read them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.cohort_options import KeyOption
from engine.cli.command import Command, Group
from engine.cli.export_options import FormatOptions
from engine.cli.options import ConfigOptions, JsonOption, flat
from engine.cli.streams import print_json, print_lines, printing
from engine.cli.text import table_lines
from engine.model.quantity import counted

if TYPE_CHECKING:
    from engine import SourcePreview

source = typer.Typer(help="What a run would read.", cls=Group)
_MOST_ROWS = 100_000
_MOST_SHAPES = 5


@source.command(cls=Command)
@flat
def preview(
    *,
    exports: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COHORT|EXPORT",
            help="A configured cohort; or files, globs, folders, URLs, a table, or - for stdin.",
        ),
    ] = None,
    cohort: KeyOption = None,
    reading: FormatOptions,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, max=_MOST_ROWS, help="Show this many rows.")
    ] = 10,
    read_all: Annotated[
        bool, typer.Option("--all", help="Read to the end, instead of about 100,000 rows.")
    ] = False,
    where: ConfigOptions,
    as_json: JsonOption = False,
) -> None:
    """Show the first rows of an export as a run would read them: it prints uids.

    Also the column and why it is read, counts, the shapes of uids, and which rows have none and
    why. Nothing is sent, no lock is held, and for an export no configuration is needed.
    """
    found = where.call(
        lambda engine: engine.preview(
            exports, cohort=cohort, **reading.reading(), limit=limit, read_all=read_all
        )
    )
    with printing():
        if as_json:
            print_json(found.to_dict())
            return
        print_lines(lines_of(found))


def lines_of(found: "SourcePreview") -> Iterator[str]:
    """Yield the lines that describe a preview, and those of its rows."""
    from engine.report.files import files_lines

    of = f", the export of cohort {found.cohort}" if found.cohort else ""
    yield f"source    {', '.join(found.exports)}{of}"
    yield from files_lines(found.files)
    for layout in found.layouts:
        header = " with a header" if layout.has_header else ""
        column = "" if layout.column is None else f", column {layout.column!r}"
        files = f"{counted(layout.files, 'file')} of " if len(found.layouts) > 1 else ""
        yield f"read as   {files}{layout.format}{header}{column}: {found.column_reason}"
    yield from (f"note      {note}" for note in found.notes)
    yield from _count_lines(found)
    yield ""
    yield from _row_lines(found)


def _count_lines(found: "SourcePreview") -> Iterator[str]:
    extent = "" if found.is_complete else "; not to the end, which --all does"
    uids = counted(found.uids, "uid")
    if found.removes is not None:
        uids = f"{found.uids - found.removes:,} to add + {found.removes:,} to remove"
    yield (
        f"rows      {found.rows_read:,} read = {found.count('blank'):,} blank + "
        f"{found.count('invalid'):,} invalid + {uids}{extent}"
    )
    total = sum(found.shapes.values())
    shapes = list(found.shapes.items())
    shown = [f"{share / total:.1%} {shape}" for shape, share in shapes[:_MOST_SHAPES]]
    if len(shapes) > _MOST_SHAPES:
        shown.append(f"{len(shapes) - _MOST_SHAPES} other shapes")
    if shown:
        yield f"uids      {', '.join(shown)}"
    if found.misfits is not None:
        yield f"          {found.misfits:,} do not match guards.uid_pattern"
    for each in found.without_uid:
        named = [
            f"{record:,}" if len(found.files) == 1 else f"{file} {record:,}"
            for file, record in each.examples
        ]
        more = ", …" if each.count > len(named) else ""
        records = f"record{'s' * (each.count != 1)} {', '.join(named)}{more}"
        yield f"{each.kind:<9} {each.count:,} {each.reason}: {records}"


def _row_lines(found: "SourcePreview") -> Iterator[str]:
    has_files = len(found.files) > 1
    headings = (*("file",) * has_files, "record", "uid", "")
    rows = [
        (
            *(row.file,) * has_files,
            row.record,
            row.uid if row.uid is None or row.uid == row.uid.strip() else f'"{row.uid}"',
            f"({row.reason})" if row.reason else row.action and row.action.value,
        )
        for row in found.rows
    ]
    if rows:
        yield from table_lines(headings, rows, ("record",))
