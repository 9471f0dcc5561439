"""What is known about one uid from the ledger and the snapshots of a workspace."""

from engine.config.loading import Config
from engine.errors import UsageError
from engine.model.cohort import CohortKey, check_id
from engine.report.why import UidReport, find_uid
from engine.runs.engines import engine_of


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
    key = CohortKey(workspace.partner, cohort_id)
    folder = config.place.folder
    answer = find_uid(folder, key, uid, engine_of(config, folder, key).look_up)
    if answer is None:
        raise UsageError(
            f"nothing was ever sent to workspace {workspace.id} at {workspace.endpoint.label} from "
            f"the state folder {config.state_dir}",
            hint="`cohortsync runs` lists what it knows; --endpoint and --state look elsewhere",
        )
    return answer
