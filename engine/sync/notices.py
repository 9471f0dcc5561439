"""The notices of a sync, by the configuration."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from engine.config.cohort_settings import CohortSettings
from engine.config.loading import Project
from engine.config.settings import SyncSettings
from engine.ledger.sqlite.access import ledger_in
from engine.notices.follow_up import FollowUp
from engine.notices.ports import NoticeContext
from engine.notices.problems import NoticedCohort
from engine.notices.sync_notices import NoticeSettings, SyncNotices
from engine.source.dates import expand_dates


def notices_of(project: Project, dates: Mapping[str, date], context: NoticeContext) -> SyncNotices:
    """Return the notices of a sync; `dates` are those of its cohorts' exports, by key.

    A workspace that the sync does not include and that has no ledger is left out. Raises
    `ConfigError` for a URL that can't be used, or a missing extra.
    """
    shared = project.shared
    included = {project.cohorts[key].workspace for key in dates}
    known = {
        name: config
        for name, config in project.workspaces.items()
        if name in included or ledger_in(config.place.folder) is not None
    }
    noticed = [
        NoticedCohort(
            key,
            each.name,
            each.workspace,
            known[each.workspace].workspace.partner,
            each.id,
            each.owner,
            each.expect_every,
            each.enabled,
        )
        for key, each in project.cohorts.items()
        if each.workspace in known
    ]
    settings = NoticeSettings(
        label=str(project.path),
        metrics=shared.metrics,
        notify=shared.notify,
        pings=shared.pings,
        follow_ups={
            key: _follow_up(project.cohorts[key], day, shared.sync) for key, day in dates.items()
        },
        after_sync=FollowUp(
            shared.sync.after or (),
            shared.sync.after_seconds,
            project.path.absolute().parent if project.path else Path.cwd(),
            partial_is_complete=shared.sync.partial_is_complete,
        ),
        zone=shared.sync.time_zone,
    )
    return SyncNotices(settings, noticed, context)


def _follow_up(cohort: CohortSettings, day: date, settings: SyncSettings) -> FollowUp:
    return FollowUp(
        cohort.after or (),
        settings.after_seconds,
        cohort.file.absolute().parent,
        None if cohort.marker is None else Path(expand_dates(cohort.marker, day)),
        cohort.partial_is_complete,
    )
