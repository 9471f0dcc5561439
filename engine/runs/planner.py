"""A mirror's plan: the export is staged, compared with the snapshot, and judged by the guards."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.ledger.plan_records import PlanRecord
from engine.ledger.records import RunState
from engine.ledger.state_folder import make_folder
from engine.model.cohort import Action, Cohort, Operation
from engine.model.quantity import counted
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.payload.envelope import Envelope
from engine.payload.member_json import MEMBER_BYTES
from engine.planning.allowances import Allowance, attributed
from engine.planning.conditions import REJECTIONS, Conditions, Resend
from engine.planning.forecast import Weight, weigh
from engine.planning.guards import Facts, judge
from engine.planning.profile import Inspection, Profile
from engine.planning.settings import GuardSettings
from engine.planning.timetable import sent_at
from engine.report.accounts import future_timestamp
from engine.runs.context import RunContext
from engine.runs.export_staging import ExportStaging
from engine.runs.interruptible import compute_or_stop
from engine.runs.plan_values import (
    counts_of,
    kept_member,
    member,
    operations_of,
    samples,
    unchecked,
    verdict_document,
)
from engine.runs.ports import EngineComparison, Ledger
from engine.snapshot.baseline import Base
from engine.snapshot.generation_source import GenerationSpec
from engine.snapshot.records import (
    Comparison,
    HeldChanges,
    Snapshot,
    Staged,
)
from engine.snapshot.store import Recent, SnapshotStore
from engine.source.protocol import Source, Spec, files_of
from engine.source.source_file import newest_utc_ns
from engine.storage.computation import Interruption

_PARTIAL = (
    "the snapshot is of lists of changes alone: members that no list has named stay; "
    "`cohortsync snapshot reconcile` takes over a list of all members"
)
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class MirrorRequest:
    """A request to make a cohort equal to an export, and the permissions for it."""

    source: Source
    spec: Spec
    """The specification that `source` was opened from, for the ledger."""
    cohort: Cohort
    first_action: Action = Action.REMOVE
    allowances: Sequence[Allowance] = ()
    reason: str | None = None
    """Why guards are lifted, in the user's words."""
    assume_empty: bool = False
    """Whether to begin with an empty snapshot: everything is an add, nothing is removed."""
    trust: int | None = None
    """The generation to use as the baseline, in place of a lost one."""
    is_shadow: bool = False
    """Whether nothing is ever sent, and a shadow snapshot is updated as if all had been sent."""
    wait_seconds: float = 0.0
    """How long to wait for another process that works on the cohort, or sends."""
    guards: GuardSettings | None = None
    """The limits of this cohort; None for those of the configuration."""
    exclude: Source | None = None
    """The exclusion list: its uids are not desired."""
    synced_as: str | None = None
    """The cohort's key, if a sync runs it: hints name the options of that."""


class Planner:
    """Plans one run."""

    def __init__(
        self, request: MirrorRequest, context: RunContext, ledger: Ledger, store: SnapshotStore
    ) -> None:
        self._request = request
        self._context = context
        self._config = context.config
        self._guards = request.guards or context.config.guards
        self._key = context.key
        self._clock = context.clock
        self._switch = context.switch
        self._note = context.note
        self._precedence = context.precedence
        self._engine = context.engine
        self._ledger = ledger
        self._store = store

    async def plan(self, state: RunState, base: Base) -> PlanRecord:
        """Stage, compare with `base`, and judge; the plan is in the ledger when this returns.

        Raises what reading the export raises, and `IncompleteError` if memory or disk is too small
        or a stop came meanwhile.
        """
        make_folder(self._store.folder)
        async with self._precedence.planning():
            options = self._store.compute_options(Interruption())
            with self._engine.comparing(self._store.folder, options) as comparison:
                return await self._plan(state, base, comparison)

    async def _plan(self, state: RunState, base: Base, comparison: EngineComparison) -> PlanRecord:
        """Make the plan; what is read is kept in lists of `comparison` meanwhile."""
        request = self._request
        folder = self._store.make_plan_folder(state.run.name)
        inspection = Inspection(self._guards.uid_pattern)
        staging = ExportStaging(self._context, self._ledger, comparison)
        excluded = None if request.exclude is None else await staging.excluded(request.exclude)
        staged, removals = await staging.export(
            *(request.source, request.spec, state.run.number, folder, inspection)
        )
        await self._precedence.compare()
        self._switch.refuse_if_pulled()
        snapshot = base.snapshot
        recent = await self._store.recent()
        if base.is_blank and recent.seconds:
            recent = replace(recent, waiting=HeldChanges(adds=True, removes=True))
        rejections = await self._rejections()
        resend = None if removals else await self._slice(staged, snapshot)
        conditions = Conditions(
            *(recent.runs, recent.waiting, rejections, resend, excluded, removals)
        )
        found = await self._compare(comparison, staged, snapshot, folder, conditions)
        self._switch.refuse_if_pulled()
        facts = await self._facts(staged, found, snapshot, inspection)
        verdicts = judge(facts, self._guards, request.allowances)
        record = PlanRecord(
            base.number,
            request.first_action,
            found.duplicate,
            found.unchanged,
            {name: counts_of(each) for name, each in operations_of(found).items()},
            kept_member(found.resent_through),
            self._exported_utc_ns,
            inspection.profile.document(),
            [verdict_document(verdict) for verdict in verdicts],
            attributed(request.allowances, request.reason),
            {
                **self._forecast(found, snapshot, recent),
                "sample": samples(found),
                **await self._partiality(base),
                "notes": [*base.notes, *await self._notes(), *unchecked(verdicts)],
            },
        )
        await self._ledger.plans.enter(state.run.number, record, is_shadow=request.is_shadow)
        return record

    async def _partiality(self, base: Base) -> dict[str, bool]:
        """Return whether uids that the snapshot will not have may be members, as far as is known.

        An export of all members settles it: as after the first one, what it does not name is out.
        """
        spec = self._request.spec
        is_known = base.is_blank or not (spec.lists_changes or isinstance(spec, GenerationSpec))
        if is_known:
            return {"is_partial": False}
        is_first = base.snapshot is None
        return {"is_partial": is_first or await self._ledger.plans.is_partial(self._key)}

    async def _notes(self) -> list[str]:
        """Return further notes to read before anything is sent."""
        notes: list[str] = []
        pushed = await self._ledger.runs.unrecorded_pushes(self._key)
        is_whole_list = not self._request.spec.lists_changes
        if is_whole_list and await self._ledger.plans.is_partial(self._key):
            notes = [_PARTIAL]
        if not pushed:
            return notes
        others = f" and {len(pushed) - 1} more" if len(pushed) > 1 else ""
        note = (
            f"run {pushed[0]}{others} pushed into this cohort, of which no snapshot knows: "
            "`cohortsync snapshot adopt` takes over what was pushed"
        )
        return [*notes, note]

    @property
    def _exported_utc_ns(self) -> int | None:
        """When the export was written, at most the present: a later time would block later runs."""
        written = newest_utc_ns(files_of(self._request.source))
        return None if written is None else min(written, self._clock.stamp().utc_ns)

    async def _compare(
        self,
        comparison: EngineComparison,
        staged: Staged,
        base: Snapshot | None,
        folder: Path,
        conditions: Conditions,
    ) -> Comparison:
        known = base.census.total if base else 0
        removals = conditions.removals
        uids = staged.uids + (removals.uids if removals else 0)
        self._note(f"comparing {counted(uids, 'uid')} with the {known:,} of the last snapshot")
        return await compute_or_stop(
            lambda interruption: comparison.compare(
                staged, base, folder, self._store.compute_options(interruption), conditions
            ),
            self._switch,
        )

    async def _slice(self, staged: Staged, base: Snapshot | None) -> Resend | None:
        """Return the slice of the members that this run sends again; None if there is none."""
        settings = self._config.mirror
        if not settings.resend_over_nights or base is None or not staged.uids:
            return None
        room = self._config.packing.payload_bytes - len(self._envelope(Operation.RESEND))
        uids_a_request = max(1, int(room / (staged.uid_bytes / staged.uids + MEMBER_BYTES)))
        per_run = -(-base.census.members // settings.resend_over_nights)
        most = min(per_run, settings.resend_requests * uids_a_request)
        after = await self._ledger.plans.resent_through(self._key)
        return Resend(most, member(after)) if most else None

    def _envelope(self, operation: Operation) -> Envelope:
        return Envelope(self._key.partner, self._request.cohort, operation.action)

    def _forecast(self, found: Comparison, base: Snapshot | None, recent: Recent) -> dict[str, Any]:
        """Return the size of the plan, and when it would be done if it were sent now."""
        config = self._config
        limit = config.packing.payload_bytes
        weights = {
            operation: weigh(each, self._envelope(operation), limit)
            for operation, each in operations_of(found).items()
        }
        whole = sum(weights.values(), Weight())
        now = self._clock.stamp().utc_ns
        seconds = (sent_at(whole.requests, HourlyCeiling(config.pacing), now) - now) / 1e9
        held = found.adds.held + found.removes.held
        settle = recent.seconds if held else 0.0
        resent = found.resends.planned
        return {
            "add": found.adds.planned,
            "remove": found.removes.planned,
            "resend": resent,
            "excluded": found.excluded,
            "held": held,
            "requests": whole.requests,
            "bytes": whole.bytes,
            "seconds_at_ceiling": ceil(seconds * 10) / 10,
            "settle_seconds": ceil(settle * 10) / 10,
            "done_at": future_timestamp(now + ceil(max(seconds, settle) * 1e9)),
            "resend_requests": weights[Operation.RESEND].requests,
            "lists_changes": self._request.spec.lists_changes,
            "resend_nights": -(-base.census.members // resent) if resent and base else None,
        }

    async def _rejections(self) -> pa.Table:
        known = await self._ledger.plans.rejections(self._key)
        days = self._config.mirror.retry_rejected_days
        due = self._clock.stamp().utc_ns - round(days * _DAY_NS)
        return pa.table(
            {
                "uid": [each.uid.encode() for each in known],
                "wanted": [each.action is Action.ADD for each in known],
                "run": [each.run for each in known],
                "is_due": [each.utc_ns <= due for each in known],
            },
            schema=REJECTIONS,
        )

    async def _facts(
        self, staged: Staged, found: Comparison, base: Snapshot | None, inspection: Inspection
    ) -> Facts:
        request = self._request
        last = await self._ledger.plans.last_mirror(self._key)
        last_name = await self._ledger.runs.last_name(self._key)
        lists_changes = request.spec.lists_changes
        return Facts(
            members=base.census.members + base.census.unknown if base else 0,
            adds=found.adds.planned - found.adds.doubtful,
            adds_left=last.additions_left if last else 0,
            removes=found.removes.planned,
            desired=0 if lists_changes else staged.uids - found.duplicate - found.excluded,
            rows_read=staged.rows_read,
            invalid=staged.invalid,
            duplicates=found.duplicate,
            misfits=inspection.misfits,
            profile=inspection.profile,
            last_profile=Profile(last.profile) if last else None,
            files=files_of(request.source),
            exported_utc_ns=self._exported_utc_ns,
            last_exported_utc_ns=last.exported_utc_ns if last else None,
            now_utc_ns=self._clock.stamp().utc_ns,
            name=request.cohort.name,
            last_name=last_name,
            excluded=found.excluded,
            lists_changes=lists_changes,
            backup_utc_ns=await self._ledger.snapshots.restored_from(self._key),
        )
