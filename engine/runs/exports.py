"""The files of an export, opened for a run."""

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

from engine.delivery.sender import StopSwitch, read_or_stop
from engine.errors import EmptyExportError, GuardError
from engine.runs.arguments import Note
from engine.source import ExportSource, Format, ReadingOptions, open_source

Exports = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Files, globs, folders, URLs, or `-` for stdin; one or several."""
FormatName = Literal["auto"] | Format


class Reading(TypedDict, total=False):
    """The fields of `ReadingOptions`, as arguments."""

    column: str | None
    format: FormatName
    header: bool
    strip: bool


def names_of(exports: Exports) -> list[str]:
    """Return the names of one or several exports."""
    if isinstance(exports, str | os.PathLike):
        return [os.fspath(exports)]
    return [os.fspath(each) for each in exports]


async def open_exports(
    exports: Sequence[str],
    options: ReadingOptions,
    *,
    note: Note,
    switch: StopSwitch,
    keeps_pipes: bool = False,
) -> ExportSource:
    """Find the files and check that they can be read, in a thread; `note` gets what is doubtful.

    Raises as `open_source`, and `IncompleteError` if a stop comes meanwhile.
    """
    source = await read_or_stop(
        lambda: open_source(exports, options, keeps_pipes=keeps_pipes), switch
    )
    for text in source.notes:
        note(text, label="note")
    return source


async def open_desired(
    exports: Sequence[str], options: ReadingOptions, *, note: Note, switch: StopSwitch
) -> ExportSource:
    """Open the export that a cohort is to equal; raises `GuardError` for one that is empty."""
    try:
        return await open_exports(exports, options, note=note, switch=switch)
    except EmptyExportError as error:
        raise GuardError(
            f"empty: {error.message}", hint="an empty export would empty the cohort"
        ) from error
