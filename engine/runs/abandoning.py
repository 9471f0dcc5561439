"""Closes one unfinished push, or one kept plan, for good."""

from typing import NoReturn

from engine.config.loading import Config
from engine.delivery.stop import StopSwitch
from engine.errors import UsageError
from engine.ledger.run_records import RunEntry, RunFilter
from engine.ledger.sqlite.access import ledger_in
from engine.ledger.sqlite.reader import LedgerReader
from engine.model.cohort import CohortKey
from engine.model.status import RESUMABLE, RunStatus
from engine.report.accounts_from_ledger import account
from engine.report.run_names import candidates, the_one
from engine.report.state import Abandoned
from engine.runs.arguments import Note
from engine.runs.context import RunContext, RunObservers
from engine.runs.session import WorkspaceSession

_KEPT = (RunStatus.PLANNED, RunStatus.CANARY)
_REASON = "it was abandoned by its user"


async def abandon(
    run: str, session: WorkspaceSession, *, wait_seconds: float, note: Note, switch: StopSwitch
) -> Abandoned:
    """Close the run or plan that `run` means (see `run_names`): it is not resumed or applied.

    What may have been applied of it stays unknown: the snapshot of a mirrored cohort includes it as
    such. Raises `UsageError` for a run that is unknown or has ended, and `LockHeldError` if a
    process works on its cohort for longer than `wait_seconds`.
    """
    entry = _find(run, session.config)
    key = CohortKey(entry.partner, entry.cohort_id)
    context = RunContext(session, key, RunObservers(note=note, switch=switch))
    async with context.open(wait_seconds, goes_by_snapshot=False) as (ledger, store):
        # While this waited, another process may have finished the run.
        _refuse_ended(_find(entry.name, session.config))
        if await ledger.runs.records_changes(entry.number):
            await store.catch_up()
        await ledger.runs.abandon(entry.number, _REASON)
        await ledger.plans.close(entry.number)
        record, _ = await ledger.run_record(entry.name)
    uids = account(record).uids
    return Abandoned(entry.name, entry.cohort_id, entry.action, uids.unconfirmed, uids.pending)


def _find(run: str, config: Config) -> RunEntry:
    """Return the run of the workspace that `run` means."""

    def unknown() -> UsageError:
        hint = "`cohortsync runs` and `cohortsync plans` list them"
        return UsageError(f"no run {run} of workspace {config.workspace.id}", hint=hint)

    if (path := ledger_in(config.place.folder)) is None:
        raise unknown()
    with LedgerReader.open(path) as ledger:
        wanted = RunFilter(statuses=(*RESUMABLE, *_KEPT))
        found = [(path, name) for name in candidates(ledger.history, run, wanted)]
        _, name = the_one(run, found, unknown, "run")
        entry = ledger.history.entry(name)
    if entry is None:  # Deleted a moment ago.
        raise unknown()
    _refuse_ended(entry)
    return entry


def _refuse_ended(entry: RunEntry) -> None:
    """Raise `UsageError` unless the run could be resumed, or its plan applied."""
    if entry.status in _KEPT:
        return
    if entry.is_mirror and entry.status in RESUMABLE and entry.status != RunStatus.RUNNING:
        _refuse(entry, "the next mirror of the cohort goes on from what was acknowledged")
    if entry.status not in RESUMABLE:
        _refuse(entry, f"`cohortsync show {entry.name}` shows how it ended")


def _refuse(entry: RunEntry, hint: str) -> NoReturn:
    what = "a mirror, which is not resumed" if entry.status in RESUMABLE else entry.status
    raise UsageError(f"run {entry.name} is {what}: there is nothing to abandon", hint=hint)
