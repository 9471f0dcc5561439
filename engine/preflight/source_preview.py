"""The first rows of an export as a run would read them; nothing is sent and nothing is locked."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from engine.clock import SystemClock
from engine.config.lookup import Configuration
from engine.errors import EmptyExportError, UsageError
from engine.model.cohort import Action
from engine.model.time_of_day import local_time
from engine.planning.profile import Inspection
from engine.report.files import files_document
from engine.runs.arguments import Exports, Reading
from engine.runs.configured_export import ConfiguredExport
from engine.runs.exports import options_of, spec_of
from engine.source.block import Block, SkippedKind
from engine.source.protocol import HasLayouts, Source, files_of
from engine.source.source_file import Layout, SourceFile
from engine.source.sql.unspooled import UnspooledResult

LOOKED_AT = 100_000
"""The number of rows that are read, unless all are."""
_EXAMPLES = 5
"""The number of rows that are named for each reason."""


@dataclass(frozen=True, slots=True)
class PreviewedRow:
    """One row of the export."""

    file: str
    record: int
    """Its number in the file, from 1; a header is not counted."""
    uid: str | None
    """The uid that would be sent; None if the row has none."""
    reason: str | None
    """Why it has none."""
    action: Action | None = None
    """What the row says, in a list of changes."""


@dataclass(slots=True)
class RowsWithoutUid:
    """The rows that have no uid for one reason."""

    kind: SkippedKind
    reason: str
    count: int = 0
    examples: list[tuple[str, int]] = field(default_factory=list)
    """The first of them: file and number of the record."""


@dataclass(frozen=True, slots=True)
class SourcePreview:
    """What a run would read, as far as it was looked at."""

    exports: Sequence[str]
    """The exports by name: the files of today, or the version of a table."""
    cohort: str | None
    """The key of the configured cohort; None if only an export was named."""
    files: Sequence[SourceFile]
    """The files; their `uids` count what was read of each."""
    layouts: Sequence[Layout]
    """Where the uids are; empty if the source does not say."""
    column_reason: str
    """Why that column is read, as a clause."""
    notes: Sequence[str]
    rows: Sequence[PreviewedRow]
    """The first rows."""
    rows_read: int
    uids: int
    is_complete: bool
    """Whether the export was read to its end."""
    without_uid: Sequence[RowsWithoutUid]
    shapes: dict[str, int]
    """How many uids have each alphabet and length, the most frequent first; of many, estimated."""
    removes: int | None
    """Uids whose row says remove, in a list of changes; None in another export."""
    misfits: int | None
    """Uids that `guards.uid_pattern` of the cohort does not match; None without a pattern."""

    def count(self, kind: SkippedKind) -> int:
        """Return the number of rows that were looked at and are `kind`."""
        return sum(each.count for each in self.without_uid if each.kind == kind)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `source preview`."""
        return {
            "exports": list(self.exports),
            "cohort": self.cohort,
            **files_document(self.files),
            "layouts": [
                {
                    "format": each.format,
                    "column": each.column,
                    "header": each.has_header,
                    "files": each.files,
                }
                for each in self.layouts
            ],
            "column_reason": self.column_reason,
            "notes": list(self.notes),
            "rows": {
                "read": self.rows_read,
                "blank": self.count("blank"),
                "invalid": self.count("invalid"),
                "uids": self.uids,
                **({} if self.removes is None else {"removes": self.removes}),
            },
            "complete": self.is_complete,
            "without_uid": [
                {
                    "kind": each.kind,
                    "reason": each.reason,
                    "count": each.count,
                    "examples": [{"file": file, "record": n} for file, n in each.examples],
                }
                for each in self.without_uid
            ],
            "shapes": self.shapes,
            "misfits": self.misfits,
            "first": [
                {
                    "file": row.file,
                    "record": row.record,
                    "uid": row.uid,
                    "reason": row.reason,
                    **({} if row.action is None else {"action": row.action.value}),
                }
                for row in self.rows
            ],
            "schema_version": 1,
        }


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """What to look at."""

    exports: Exports | None
    """Files, a table, or the key of a configured cohort; None for the export of `cohort`."""
    cohort: str | None
    """The key of a configured cohort."""
    reading: Reading
    limit: int
    """The number of rows to show."""
    reads_all: bool

    def named(self, configuration: Configuration) -> "NamedExport":
        """Return the export that is meant; the configuration is read only for a cohort.

        A single name is the key of a cohort, unless it is that of a file. Raises `UsageError` if
        nothing is named or the cohort is unknown, `ConfigError`, and as `ConfiguredExport.chosen`.
        """
        key, exports = self.cohort, self.exports
        if key is None and isinstance(exports, list | tuple) and len(exports) == 1:
            exports = exports[0]
        if key is None and isinstance(exports, str) and _is_cohort(exports, configuration):
            key, exports = exports, None
        named_by = "--column" if self.reading.get("column") else None
        if key is None:
            if not exports:
                raise UsageError("nothing is named", hint="name an export, or a configured cohort")
            spec = spec_of(exports, self.reading).pinned()
            return NamedExport(spec.names, spec.open(), column_named_by=named_by)
        table = configuration.cohort(key)
        if table.column and named_by is None:
            named_by = f"cohorts.{key}.column"
        notes = ("the cohort's exclusion list is not applied here",) * (table.exclude is not None)
        of_cohort = partial(
            NamedExport,
            cohort=key,
            column_named_by=named_by,
            uid_pattern=table.guards.uid_pattern,
            notes=notes,
        )
        if exports:
            spec = spec_of(exports, self.reading, table.reading).pinned()
            return of_cohort(spec.names, spec.open())
        zone = configuration.project.shared.sync.time_zone
        today = local_time(SystemClock().stamp().utc_ns, zone).date()
        options = options_of(self.reading, table.reading)
        if table.query is not None:
            query = table.query.on(today)
            connection = configuration.project.shared.connections[query.connection]
            return of_cohort([query.name], UnspooledResult(connection, query, options))
        spec = replace(ConfiguredExport.of(table).chosen(today), options=options)
        return of_cohort(spec.names, spec.open())


@dataclass(frozen=True, slots=True)
class NamedExport:
    """An export, opened, and what its cohort says of it."""

    names: Sequence[str]
    source: Source
    cohort: str | None = None
    column_named_by: str | None = None
    """What names the column, such as an option; None if nothing does."""
    uid_pattern: str | None = None
    notes: Sequence[str] = ()


def _is_cohort(name: str, configuration: Configuration) -> bool:
    is_key = _KEY.fullmatch(name) is not None and not Path(name).exists()
    return is_key and configuration.has_file and name in configuration.project.cohorts


_KEY = re.compile(r"[\w.-]*\w[\w.-]*")


def preview(request: PreviewRequest, configuration: Configuration) -> SourcePreview:
    """Read the first rows of an export, or all.

    An export whose rows have no uid is no error. Raises as `PreviewRequest.named`,
    `SourceSpec.open` and `Source.blocks`.
    """
    named = request.named(configuration)
    source = named.source
    look = _Look(request.limit, Inspection(named.uid_pattern))
    is_complete = True
    with suppress(EmptyExportError):
        for block in source.blocks():
            if look.rows_read >= max(LOOKED_AT, request.limit) and not request.reads_all:
                is_complete = False
                break
            look.add(block)
    layouts = source.layouts if isinstance(source, HasLayouts) else ()
    shapes = look.inspection.profile.document()
    return SourcePreview(
        exports=named.names,
        cohort=named.cohort,
        files=files_of(source),
        layouts=layouts,
        column_reason=_reason(layouts, named.column_named_by),
        notes=(*named.notes, *source.notes),
        rows=look.rows,
        rows_read=look.rows_read,
        uids=look.uids,
        is_complete=is_complete,
        without_uid=list(look.without_uid.values()),
        shapes=dict(sorted(shapes.items(), key=lambda each: -each[1])),
        removes=look.removes,
        misfits=None if named.uid_pattern is None else look.inspection.misfits,
    )


def _reason(layouts: Sequence[Layout], named_by: str | None) -> str:
    if all(each.column is None for each in layouts):
        return "a line is a uid"
    return "it is the only one" if named_by is None else f"{named_by} names it"


@dataclass(slots=True)
class _Look:
    """What was seen of an export so far."""

    limit: int
    inspection: Inspection
    rows: list[PreviewedRow] = field(default_factory=list)
    rows_read: int = 0
    uids: int = 0
    removes: int | None = None
    without_uid: dict[str, RowsWithoutUid] = field(default_factory=dict)

    def add(self, block: Block) -> None:
        self.rows += islice(_rows_of(block), self.limit - len(self.rows))
        self.rows_read += block.records
        self.uids += len(block.uids)
        if block.is_remove is not None:
            self.removes = (self.removes or 0) + int(block.is_remove.sum())
        self.inspection.look(block.uids)
        for run in block.skipped:
            found = self.without_uid.setdefault(run.reason, RowsWithoutUid(run.kind, run.reason))
            found.count += run.count
            numbers = range(run.record, run.record + run.count)[: _EXAMPLES - len(found.examples)]
            found.examples += [(block.file, number) for number in numbers]


def _rows_of(block: Block) -> Iterator[PreviewedRow]:
    """Yield the rows of a block in order."""
    actions: Iterator[Action | None] = repeat(None)
    if block.is_remove is not None:
        actions = (Action.REMOVE if each else Action.ADD for each in block.is_remove)
    uids = zip(block.uids, actions, strict=False)
    number = block.first_record
    for run in block.skipped:
        for record in range(number, run.record):
            uid, action = next(uids)
            yield PreviewedRow(block.file, record, uid.as_py(), None, action)
        for record in range(run.record, run.record + run.count):
            yield PreviewedRow(block.file, record, None, run.reason)
        number = run.record + run.count
    for record, (uid, action) in enumerate(uids, number):
        yield PreviewedRow(block.file, record, uid.as_py(), None, action)
