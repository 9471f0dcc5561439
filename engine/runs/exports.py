"""The files of an export, opened for a run."""

import os
from typing import TYPE_CHECKING

from engine.delivery.stop import StopSwitch
from engine.errors import EmptyExportError, GuardError
from engine.runs.arguments import Exports, Note, Reading
from engine.runs.interruptible import read_or_stop
from engine.source.options import ReadingOptions
from engine.source.spec import SourceSpec

if TYPE_CHECKING:
    from engine.source.files.file_source import FileSource


def spec_of(exports: Exports, reading: Reading) -> SourceSpec:
    """Return which files to read, and how."""
    named = [exports] if isinstance(exports, str | os.PathLike) else exports
    return SourceSpec(tuple(os.fspath(each) for each in named), ReadingOptions(**reading))


async def open_exports(
    spec: SourceSpec, *, note: Note, switch: StopSwitch, rereadable: bool = False
) -> "FileSource":
    """Find the files and check in a thread that they can be read; `note` receives warnings.

    Raises as `SourceSpec.open` does, and `IncompleteError` if a stop comes meanwhile.
    """
    source = await read_or_stop(lambda: spec.open(rereadable=rereadable), switch)
    for text in source.notes:
        note(text, label="note")
    return source


async def open_desired(spec: SourceSpec, *, note: Note, switch: StopSwitch) -> "FileSource":
    """Open the export that a cohort should equal; raises `GuardError` for an empty export."""
    try:
        return await open_exports(spec, note=note, switch=switch)
    except EmptyExportError as error:
        raise GuardError(
            f"empty: {error.message}", hint="an empty export would empty the cohort"
        ) from error
