"""What is known from the ledgers and the snapshots: of one uid, and of the present."""

from datetime import timedelta

from engine.config.loading import Config, Project
from engine.errors import UsageError
from engine.model.cohort import CohortKey, check_id
from engine.report.state import StateUsage
from engine.report.status import Status
from engine.report.status_reading import WatchedCohort, WatchedWorkspace, WorkspaceStatus
from engine.report.why import UidReport, find_uid
from engine.runs.retention import usage_of


def why(config: Config, uid: str, cohort_id: str) -> UidReport:
    """Return whether a uid is in a cohort, since when, and by which request.

    Raises `UsageError` for a uid that is not valid UTF-8, and if nothing was ever sent to the
    workspace or the cohort.
    """
    try:
        uid.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the uid is not valid UTF-8") from error
    check_id(cohort_id)
    workspace = config.workspace
    answer = find_uid(config.place.folder, CohortKey(workspace.partner, cohort_id), uid)
    if answer is None:
        raise UsageError(
            f"nothing was ever sent to workspace {workspace.id} at {workspace.endpoint.label} from "
            f"the state folder {config.state_dir}",
            hint="`cohortsync runs` lists what it knows; --endpoint and --state look elsewhere",
        )
    return answer


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
        StateUsage(usage_of(project.shared)),
    )


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
            )
            for each in project.cohorts.values()
            if each.workspace == config.name
        ],
    )


def _ns(duration: timedelta) -> int:
    return round(duration.total_seconds()) * 1_000_000_000
