"""The files of an export, opened for a run."""

from collections.abc import Sequence

from engine.delivery.sender import StopSwitch, read_or_stop
from engine.errors import EmptyExportError, GuardError
from engine.runs.arguments import Note
from engine.source import ExportSource, ReadingOptions, open_source


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
