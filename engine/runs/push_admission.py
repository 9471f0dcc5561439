"""A request for a push, and whether it may begin or resume a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.config.loading import Config
from engine.errors import ExportChangedError, GuardError, UsageError
from engine.ledger.records import RunKey, RunReference, overtaken
from engine.model.cohort import Action, Cohort, CohortKey
from engine.planning.allowances import Allowance, Guard, flags_to_lift
from engine.planning.settings import GuardSettings
from engine.runs.ports import RunStore
from engine.source.protocol import Source, Spec, exclusion_digest


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What to push, and how to treat an unfinished earlier run."""

    source: Source
    spec: Spec
    """The specification that `source` was opened from, for the ledger."""
    cohort: Cohort
    action: Action
    restart_if_changed: bool = False
    allowances: Sequence[Allowance] = ()
    """The lifted guards; only the guard `name` applies to a push."""
    reason: str | None = None
    """Why the guard is lifted, in the user's words."""
    records: bool = False
    """Whether the cohort's snapshot records what is sent, as it does for a mirror."""
    wait_seconds: float = 0.0
    """How long to wait for another process that works on the cohort, or sends."""
    guards: GuardSettings | None = None
    """The limits of this cohort; None for those of the configuration."""
    resumes: str | None = None
    """The run to resume; None to resume the unfinished run of the same request, or to begin one."""
    synced_as: str | None = None
    """The cohort's key, if a sync runs it: hints name the options of that."""


class RunEndedError(UsageError):
    """The run to resume is no longer unfinished: another caller or process has ended it."""


def key_of(request: PushRequest, config: Config) -> RunKey:
    """Return the key that identifies the run of this request; an earlier run may have the same."""
    workspace = config.workspace
    return RunKey(
        config.place.endpoint,
        workspace.id,
        workspace.partner,
        request.cohort,
        request.action,
        request.source.identity,
    )


async def refuse_ended(runs: RunStore, request: PushRequest, config: Config) -> None:
    """Raise `RunEndedError` if the run to resume is not the one that the request would resume."""
    if request.resumes is None:
        return
    found = await runs.unfinished(key_of(request, config).identity)
    if found is None or found.name != request.resumes:
        raise RunEndedError(f"run {request.resumes} has ended in the meantime")


async def admit(runs: RunStore, request: PushRequest, config: Config) -> bool:
    """Return whether the snapshot records this push, or the unfinished push that it resumes.

    Raises `UsageError` for a push that would change a cohort without its snapshot, or that
    cannot be resumed, and `GuardError` for one that would rename the cohort.
    """
    key = CohortKey(config.workspace.partner, request.cohort.id)
    found = await runs.unfinished(key_of(request, config).identity)
    if found is not None and not request.restart_if_changed:
        await _refuse_other_exclusion(runs, request, found)
    is_recorded = await _is_recorded(runs, request, key, found)
    await _refuse_other_name(runs, request, key)
    if found is not None and not request.restart_if_changed:
        later = await runs.later_run(found.number, key)
        if later is not None:
            raise overtaken(found.name, later, key.cohort_id)
    return is_recorded


async def _refuse_other_exclusion(
    runs: RunStore, request: PushRequest, found: RunReference
) -> None:
    """Raise `ExportChangedError` if a run began with other uids to exclude."""
    if await excludes_others(runs, request, found.number):
        raise ExportChangedError(
            f"the exclusion list has changed since run {found.name} began",
            hint="put the list back to go on, or pass --on-changed restart to begin a new run",
        )


async def excludes_others(runs: RunStore, request: PushRequest, run: int) -> bool:
    """Return whether a run began with other uids to exclude than those of the request."""
    return exclusion_digest(request.source) != await runs.exclusion_digest(run)


async def _is_recorded(
    runs: RunStore, request: PushRequest, key: CohortKey, found: RunReference | None
) -> bool:
    if found is not None:
        is_unrecorded = await runs.has_unrecorded_batches(found.number)
        if request.records and is_unrecorded and not request.restart_if_changed:
            raise UsageError(
                f"run {found.name} was begun without --record: what it has sent so far is not "
                "recorded",
                hint="resume it as it was begun, or pass --on-changed restart to begin anew",
            )
        if await runs.records_changes(found.number):
            return True
    if not request.records and await runs.is_mirrored(key):
        raise UsageError(
            f"cohort {request.cohort.id} is mirrored: a push would change what its snapshot knows",
            hint="mirror the export that it should be equal to, or pass --record, and the snapshot "
            "follows the push",
        )
    return request.records


async def _refuse_other_name(runs: RunStore, request: PushRequest, key: CohortKey) -> None:
    """Raise `GuardError` if the cohort is known by another name: its id may be wrong."""
    last = await runs.last_name(key)
    is_lifted = any(each.guard is Guard.NAME for each in request.allowances)
    if last is None or last == request.cohort.name or is_lifted:
        return
    flags = flags_to_lift(
        *([Allowance(Guard.NAME).flag], request.allowances, request.reason, request.synced_as)
    )
    raise GuardError(
        f"name: cohort {key.cohort_id} was called '{last}' and is '{request.cohort.name}' now: is "
        "the id right?",
        hint=f"check the id; if it is right: {flags}",
    )
