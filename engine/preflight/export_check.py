"""The part of the preflight on configured cohorts: whether the export of each is there now."""

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import date

from engine.clock import SystemClock
from engine.config.cohorts import CohortSettings
from engine.config.loading import Project
from engine.errors import CohortSyncError, SourceError
from engine.model.time_of_day import local_time
from engine.preflight.finding import Finding, FindingStatus, failure
from engine.runs.configured_export import ConfiguredExport
from engine.runs.exports import about_exclusion
from engine.source.source_file import SourceFile, describe_files


async def check_exports(project: Project, workspaces: Collection[str]) -> AsyncIterator[Finding]:
    """Yield a finding for each cohort of these workspaces."""
    zone = project.shared.sync.time_zone
    today = local_time(SystemClock().stamp().utc_ns, zone).date()
    for cohort in project.cohorts.values():
        if cohort.workspace in workspaces:
            yield await asyncio.to_thread(check_export, cohort, today)


def check_export(cohort: CohortSettings, day: date) -> Finding:
    """Return whether the export of a cohort is there; if not, that is a note: it may come later."""
    key = cohort.key
    export = ConfiguredExport.of(cohort)
    try:
        found = export.chosen(day).states()
        if export.exclude is not None:
            with about_exclusion():
                export.exclude.chosen(day).states()
    except SourceError as error:
        note = f"{key}: {error.message}"
        return Finding("export", FindingStatus.NOTE, note, error.hint, cohort=key)
    except CohortSyncError as error:
        return failure("export", error, key)
    files = [
        SourceFile(name, state.size if state else None, state.written_utc_ns if state else None)
        for name, state in found.items()
    ]
    detail = f"{key}: {describe_files(files)}{'' if cohort.enabled else ', not enabled'}"
    return Finding("export", FindingStatus.OK, detail, cohort=key)
