"""The files of an export, opened for a run."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.delivery.stop import StopSwitch
from engine.errors import EmptyExportError, GuardError
from engine.runs.arguments import Exports, Note, Reading
from engine.runs.interruptible import read_or_stop
from engine.source.options import ReadingOptions
from engine.source.spec import SourceSpec

if TYPE_CHECKING:
    from engine.source.files.file_source import FileSource


def spec_of(
    exports: Exports, reading: Reading, otherwise: ReadingOptions | None = None
) -> SourceSpec:
    """Return which files to read, and how; `otherwise` has the options that `reading` has not."""
    named = [exports] if isinstance(exports, str | os.PathLike) else exports
    return SourceSpec(tuple(os.fspath(each) for each in named), options_of(reading, otherwise))


def options_of(reading: Reading, otherwise: ReadingOptions | None = None) -> ReadingOptions:
    """Return the reading options, by default those of `otherwise`."""
    given: dict[str, Any] = {name: each for name, each in reading.items() if each is not None}
    return replace(otherwise or ReadingOptions(), **given)


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
