"""What runs now, and how each configured cohort stands; its imports are few, as it is quick."""

from datetime import timedelta

from engine.config.loading import Config, Project
from engine.coordination.coordination import key_prefix
from engine.coordination.inquiry import ceiling_now
from engine.errors import CohortSyncError
from engine.report.status import Status, WorkspaceCeiling
from engine.report.status_reading import WatchedCohort, WatchedWorkspace, WorkspaceStatus
from engine.runs.usage import usage_of


def status(project: Project, now_utc_ns: int) -> Status:
    """Return what runs now in each workspace, and how each configured cohort stands.

    Raises `LedgerError` for a ledger that cannot be read.
    """
    found = [
        WorkspaceStatus(_watched(config, project), now_utc_ns, includes_others=not project.cohorts)
        for config in project.workspaces.values()
    ]
    order = {key: number for number, key in enumerate(project.cohorts)}
    cohorts = [cohort for each in found for cohort in each.cohorts]
    return Status(
        now_utc_ns,
        [run for each in found for run in each.running],
        sorted(cohorts, key=lambda each: order.get(each.cohort, len(order))),
        sum(each.others for each in found),
        usage_of(project.shared),
    )


async def shared_ceilings(project: Project) -> list[WorkspaceCeiling]:
    """Return the ceilings that hosts share; a server that cannot be asked is no error."""
    found = []
    for config in project.workspaces.values():
        if config.shared is None:
            continue
        workspace, label = config.workspace, config.shared.access.address.label
        prefix = key_prefix(workspace.endpoint.identity, workspace.id)
        try:
            now = await ceiling_now(config.shared, prefix, config.pacing)
        except CohortSyncError as error:
            found.append(WorkspaceCeiling(config.name, label, None, error.message))
        else:
            found.append(WorkspaceCeiling(config.name, label, now))
    return found


def _watched(config: Config, project: Project) -> WatchedWorkspace:
    workspace = config.workspace
    return WatchedWorkspace(
        config.name,
        workspace.endpoint.label,
        workspace.id,
        workspace.partner,
        config.place.folder,
        [
            WatchedCohort(
                each.key,
                each.id,
                each.name,
                each.mode,
                None if each.expect_every is None or not each.enabled else _ns(each.expect_every),
                is_enabled=each.enabled,
            )
            for each in project.cohorts.values()
            if each.workspace == config.name
        ],
    )


def _ns(duration: timedelta) -> int:
    return round(duration.total_seconds()) * 1_000_000_000
