"""The files of an export, opened for a run."""

import os
from typing import TYPE_CHECKING

from engine.delivery.stop import StopSwitch
from engine.errors import EmptyExportError, GuardError
from engine.runs.arguments import Exports, Note, Reading
from engine.runs.interruptible import read_or_stop
from engine.source import ReadingOptions, SourceSpec

if TYPE_CHECKING:
    from engine.source.files.file_source import FileSource


def spec_of(exports: Exports, reading: Reading) -> SourceSpec:
    """Return what is to be read, and how."""
    named = [exports] if isinstance(exports, str | os.PathLike) else exports
    return SourceSpec(tuple(os.fspath(each) for each in named), ReadingOptions(**reading))


async def open_exports(
    spec: SourceSpec, *, note: Note, switch: StopSwitch, rereadable: bool = False
) -> "FileSource":
    """Find the files and check that they can be read, in a thread; `note` gets what is doubtful.

    Raises as `SourceSpec.open`, and `IncompleteError` if a stop comes meanwhile.
    """
    source = await read_or_stop(lambda: spec.open(rereadable=rereadable), switch)
    for text in source.notes:
        note(text, label="note")
    return source


async def open_desired(spec: SourceSpec, *, note: Note, switch: StopSwitch) -> "FileSource":
    """Open the export that a cohort is to equal; raises `GuardError` for one that is empty."""
    try:
        return await open_exports(spec, note=note, switch=switch)
    except EmptyExportError as error:
        raise GuardError(
            f"empty: {error.message}", hint="an empty export would empty the cohort"
        ) from error
