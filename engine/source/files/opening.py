"""Finds the files of an export and inspects each of them, before anything is sent."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from engine.clock import Clock
from engine.errors import SourceError, UsageError
from engine.source.files.change_detector import ChangeDetector
from engine.source.files.file_kinds import GUESSED, UNKNOWN, kind_by_name, refuse_mixture
from engine.source.files.file_source import READ_ERRORS, ExportFile, FileSource, empty
from engine.source.files.finding import find_locations
from engine.source.files.inspection import inspect_file
from engine.source.files.local import unreadable
from engine.source.files.locations import Location
from engine.source.files.pipe import Pipe
from engine.source.formats.detection import declared_format
from engine.source.options import ReadingOptions


def open_source(
    exports: Sequence[str],
    options: ReadingOptions,
    *,
    keep_pipes: bool = False,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> FileSource:
    """Find the files of an export, and check from the start of each that it can be read.

    `exports` are files, globs, folders, URLs or `-`. A pipe can be read once, or any number of
    times with `keep_pipes`: then it is copied, if it is large to a temporary file. `clock` is for
    the age of files. `sleep` waits for a young file to grow, and before a remote read is retried.

    Raises `SourceError` for a file that is missing, unreadable, empty or in no known format, and
    for a column that is missing or cannot hold uids; `UsageError` for what only the user can
    decide, such as which of several columns.
    """
    locations, notes, groups = find_locations(exports, sleep)
    pipes = [each for each in locations if isinstance(each, Pipe)]
    for pipe in pipes:
        pipe.is_kept = keep_pipes
    unchanging = {
        name for pipe in pipes if pipe.state is None for name in (pipe.name, pipe.address)
    }
    files = [export for export in exports if export not in unchanging]
    changes = ChangeDetector(locations, lambda: find_locations(files).locations, clock, sleep)
    inspected: dict[str, ExportFile | None] = {}
    for number, group in enumerate(groups):
        found = _inspect_group(group, options, changes, formats_may_differ=number == 0)
        inspected.update(zip((each.address for each in group), found, strict=True))
    exports_or_none = [inspected[each.address] for each in locations]
    readable = [export for export in exports_or_none if export is not None]
    if all(export.is_empty for export in readable):
        raise empty([each.name for each in locations])
    notes += tuple(f"{each.name}: is empty" for each in locations if not inspected[each.address])
    return FileSource(
        readable,
        changes,
        strip=options.strip,
        notes=(*notes, *_notes(readable, options)),
        locations=locations,
    )


def _notes(exports: Sequence[ExportFile], options: ReadingOptions) -> Iterator[str]:
    """Yield what should be known about the formats found."""
    for export in exports:
        name = export.location.name
        if export.options["format"] == "text" and declared_format(name, options) is None:
            yield (
                f"{name}: read as text, a uid a line, its first line too; --format csv if that is "
                "a header"
            )
            break
    formats = {export.options["format"] for export in exports}
    if not options.header and not formats & {"csv", "tsv"}:
        yield "--no-header is ignored: only csv and tsv have a header"


def _inspect_group(
    locations: Sequence[Location],
    options: ReadingOptions,
    changes: ChangeDetector,
    *,
    formats_may_differ: bool,
) -> list[ExportFile | None]:
    """Inspect the files of one group, and refuse a mixture of kinds."""
    refuse = partial(refuse_mixture, formats_may_differ=formats_may_differ)
    kinds = {
        location.name: kind
        for location in locations
        if location.size != 0 and (kind := kind_by_name(location.name))
    }
    refuse(kinds)
    found: list[ExportFile | None] = []
    for location in locations:
        try:
            export = _inspect(location, options, changes)
        except (SourceError, UsageError) as error:
            is_unreadable = isinstance(error.__cause__, OSError)
            is_permanent = error.exit_status is SourceError.exit_status
            if location.name not in kinds and is_permanent and not is_unreadable:
                refuse({**kinds, location.name: UNKNOWN})
            raise
        found.append(export)
        if export is not None and location.name not in kinds:
            kinds[location.name] = _kind(export, options)
    refuse(kinds)
    return found


def _kind(export: ExportFile, options: ReadingOptions) -> str:
    """Return the kind of a file whose name does not show it."""
    if options.format != "auto":
        return UNKNOWN
    format_: str = export.options["format"]
    return GUESSED if format_ == "text" else format_


def _inspect(
    location: Location, options: ReadingOptions, changes: ChangeDetector
) -> ExportFile | None:
    """Inspect one file, and check that it did not change meanwhile, if that is quick."""
    try:
        export = inspect_file(location, options)
    except READ_ERRORS as error:
        if location.is_quick_to_check and not isinstance(error, FileNotFoundError):
            changes.check(location)
        raise unreadable(location.name, error) from error
    if location.is_quick_to_check:
        changes.check(location)
    return export
