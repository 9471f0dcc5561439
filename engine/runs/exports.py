"""The files of an export, opened for a run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from engine.delivery.stop import StopSwitch
from engine.errors import (
    EmptyExportError,
    GuardError,
    MissingExportError,
    SourceError,
    UsageError,
)
from engine.model.cohort import Action
from engine.runs.arguments import Exports, Note, Reading
from engine.runs.interruptible import read_or_stop
from engine.source.options import ReadingOptions
from engine.source.protocol import Source, files_of
from engine.source.source_file import describe_files
from engine.source.spec import SourceSpec


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


def excluding(
    spec: SourceSpec, exclude: Exports, column: str | None, action: Action = Action.ADD
) -> SourceSpec:
    """Return the spec with an exclusion list, if any is named; `column` is that of its uids.

    Raises `UsageError` for an `action` that nothing is excluded from.
    """
    listed = spec_of(exclude, {"column": column, "strip": spec.options.strip})
    if not listed.files:
        if column is not None:
            raise UsageError("--exclude-column needs an --exclude")
        return spec
    if action is Action.REMOVE:
        raise UsageError(
            "--exclude and --action remove exclude each other",
            hint="an exclusion list says who is not added; to remove a list, name it as the export",
        )
    if "-" in listed.files and "-" in spec.files:
        raise UsageError("standard input can be the export or the exclusion list, not both")
    return replace(spec, exclude=listed)


async def open_exports(
    spec: SourceSpec, *, note: Note, switch: StopSwitch, rereadable: bool = False
) -> Source:
    """Find the files and check in a thread that they can be read; `note` receives warnings.

    Raises as `SourceSpec.open` does, and `IncompleteError` if a stop comes meanwhile.
    """
    source = await read_or_stop(lambda: spec.open(rereadable=rereadable), switch)
    for text in source.notes:
        note(text, label="note")
    return source


async def open_desired(spec: SourceSpec, *, note: Note, switch: StopSwitch) -> Source:
    """Open the export that a cohort should equal; raises `GuardError` for an empty export."""
    try:
        return await open_exports(spec, note=note, switch=switch)
    except EmptyExportError as error:
        raise GuardError(
            f"empty: {error.message}", hint="an empty export would empty the cohort"
        ) from error


@contextmanager
def about_exclusion() -> Iterator[None]:
    """Let an error say that it is about the exclusion list, which is not the missing export."""
    try:
        yield
    except (SourceError, UsageError) as error:
        message = f"exclusion list: {error.message}"
        hint = error.hint and error.hint.replace("--column", "--exclude-column")
        if isinstance(error, MissingExportError):
            raise SourceError(message, hint=hint) from None
        error.message, error.hint = message, hint
        raise


async def open_exclusion(spec: SourceSpec, *, note: Note, switch: StopSwitch) -> Source | None:
    """Open an exclusion list; `note` receives its files. Returns None for one without content.

    Raises as `SourceSpec.open`, and `IncompleteError` if a stop comes meanwhile.
    """
    try:
        with about_exclusion():
            source = await read_or_stop(spec.open, switch)
    except EmptyExportError:
        note(f"the exclusion list {', '.join(spec.names)} is empty", label="warning")
        return None
    for text in source.notes:
        note(f"exclusion list: {text}", label="note")
    note(f"reading the exclusion list: {describe_files(files_of(source))}")
    return source


async def open_push(
    spec: SourceSpec, *, note: Note, switch: StopSwitch, rereadable: bool = False
) -> tuple[Source, SourceSpec]:
    """Open the export of a push; its exclusion list is read into memory.

    Returns the source, and the spec with the digest of the list. Raises as `open_exports`, and as
    `Exclusion` does.
    """
    if spec.exclude is None:
        source = await open_exports(spec, note=note, switch=switch, rereadable=rereadable)
        return source, spec
    from engine.source.exclusion import ExcludingSource, Exclusion, excluded_blocks  # noqa: PLC0415 - large

    listed = await open_exclusion(spec.exclude, note=note, switch=switch)
    blocks = () if listed is None else excluded_blocks(listed)
    with about_exclusion():
        exclusion = await read_or_stop(lambda: Exclusion(blocks), switch)
    source = await open_exports(spec, note=note, switch=switch, rereadable=rereadable)
    identity = spec.exclude.request
    exclude = replace(spec.exclude, digest=exclusion.digest)
    return ExcludingSource(source, exclusion, identity), replace(spec, exclude=exclude)
