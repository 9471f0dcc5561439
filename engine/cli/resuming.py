"""What `cohortsync resume` does besides a push: it waits for others, and goes on with all."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from engine.cli.messages import tell_error
from engine.cli.push import push_shown
from engine.cli.running import StopSignals
from engine.cli.streams import print_json, printing
from engine.cli.summary import document_of, print_result, tell_end
from engine.cli.view import make_view
from engine.config.loading import Config
from engine.errors import CohortSyncError, ExitStatus
from engine.ledger.locks import Patience, until_free
from engine.model.cohort import CohortKey
from engine.report.accounts import SCHEMA_VERSION
from engine.report.history import UnfinishedRun
from engine.runs.push import PushRequest

_WORSE = (
    ExitStatus.ACCEPTED,
    ExitStatus.PARTIAL,
    ExitStatus.INCOMPLETE,
    ExitStatus.GUARDED,
    ExitStatus.REFUSED,
    ExitStatus.USAGE,
    ExitStatus.UNBALANCED,
)
"""From the best to the worst: what needs a person is worse than what another try may mend."""


def wait_until_free(config: Config, run: UnfinishedRun, wait: float) -> bool:
    """Wait for the process that works on the run's cohort, or sends; say whether there was one."""
    view = make_view(config.pacing, lambda: None)

    def tell(holder: str) -> None:
        view.note(f"waiting for {holder}")

    key = CohortKey(run.partner, run.cohort_id)
    return asyncio.run(until_free(config.place.folder, key, Patience(wait, waiting=tell)))


def resume_all(
    runs: Sequence[UnfinishedRun],
    request_of: Callable[[UnfinishedRun], PushRequest],
    config: Config,
    *,
    as_json: bool,
) -> ExitStatus:
    """Go on with one run after the other, whatever became of the one before; return the worst end.

    A signal stops the run under way, and none follows it. As JSON all are one document.
    """
    documents: list[dict[str, Any]] = []
    with StopSignals() as signalled:
        for run in runs:
            if signalled.has_come:
                why = "not gone on with: a signal came"
                documents.append(_failed(run, CohortSyncError(why), ExitStatus.INCOMPLETE))
                continue
            try:
                result = push_shown(request_of(run), config, signalled=signalled)
            except CohortSyncError as error:
                error.message = f"run {run.name}: {error.message}"
                tell_error(error)
                documents.append(_failed(run, error, error.exit_status))
                continue
            documents.append(document_of(result))
            if as_json:
                tell_end(result)
            else:
                print_result(result, as_json=False)
        worst = max(documents, key=lambda document: _WORSE.index(document["exit_status"]))
        status = ExitStatus(worst["exit_status"])
        signalled.end(status)
    if as_json:
        with printing():
            print_json(
                {
                    "run": None,
                    "status": worst["status"],
                    "exit_status": int(status),
                    "reason": worst["reason"],
                    "runs": documents,
                    "schema_version": SCHEMA_VERSION,
                }
            )
    return status


def _failed(run: UnfinishedRun, error: CohortSyncError, exit_status: int) -> dict[str, Any]:
    return {
        "run": run.name,
        "status": "failed",
        "exit_status": int(exit_status),
        "reason": error.message,
        "hint": error.hint,
        "schema_version": SCHEMA_VERSION,
    }
