"""The part of the preflight on configured cohorts: whether the export of each is there now."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import date

from engine.clock import SystemClock
from engine.config.cohort_settings import CohortSettings
from engine.config.loading import Project
from engine.errors import CohortSyncError, SourceError
from engine.model.time_of_day import local_time
from engine.preflight.finding import Finding, FindingStatus, failure
from engine.runs.configured_export import ConfiguredExport
from engine.runs.exports import about_exclusion
from engine.source.source_file import SourceFile, describe_files
from engine.source.sql.connection import Connection


async def check_exports(project: Project, workspaces: Collection[str]) -> AsyncIterator[Finding]:
    """Yield a finding for each cohort of these workspaces."""
    zone = project.shared.sync.time_zone
    today = local_time(SystemClock().stamp().utc_ns, zone).date()
    for cohort in project.cohorts.values():
        if cohort.workspace in workspaces:
            connections = project.workspaces[cohort.workspace].connections
            yield await asyncio.to_thread(check_export, cohort, today, connections)


def check_export(
    cohort: CohortSettings, day: date, connections: Mapping[str, Connection]
) -> Finding:
    """Return whether the export of a cohort is there; if not, that is a note: it may come later.

    A query is sent to its database, which returns its columns and no row; that it cannot be run is
    a failure, unless the database is away.
    """
    key = cohort.key
    export = ConfiguredExport.of(cohort)
    try:
        detail = _look(export, day, connections)
        if export.exclude is not None:
            with about_exclusion():
                _look(export.exclude, day, connections)
    except SourceError as error:
        if export.query is not None and error.exit_status is SourceError.exit_status:
            return failure("export", error, key)
        note = f"{key}: {error.message}"
        return Finding("export", FindingStatus.NOTE, note, error.hint, cohort=key)
    except CohortSyncError as error:
        return failure("export", error, key)
    detail = f"{key}: {detail}{'' if cohort.enabled else ', not enabled'}"
    return Finding("export", FindingStatus.OK, detail, cohort=key)


def _look(export: ConfiguredExport, day: date, connections: Mapping[str, Connection]) -> str:
    """Return a line on an export that is there; raises `SourceError` if it is not."""
    if export.query is not None:
        from engine.source.sql.reading import QueryReading  # noqa: PLC0415 - Arrow is large

        query = export.query.on(day)
        reading = QueryReading(
            connections[query.connection], query, export.options.column, (query.value,)
        )
        return f"{query.name}: the uids are in column {reading.check()!r}"
    files = [
        SourceFile(name, state.size if state else None, state.written_utc_ns if state else None)
        for name, state in export.chosen(day).states().items()
    ]
    return describe_files(files)
