"""One cohort of a sync, from its export to its result."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from engine.config.cohort_settings import CohortSettings
from engine.delivery.events import Answered, Paused, RunEvent, Sent, Waiting
from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError, ExitStatus, GuardError, MissingExportError
from engine.model.status import CohortStatus, RunStatus
from engine.planning.file_times import judge_age
from engine.report.sync_result import CohortResult, status_named
from engine.runs.configured_export import ConfiguredExport, Surroundings, resolve
from engine.runs.context import RunObservers
from engine.runs.dry_run import dry_run, requests_left
from engine.runs.exports import open_desired, open_exclusion, open_push
from engine.runs.mirror import mirror
from engine.runs.planner import MirrorRequest
from engine.runs.precedence import Precedence
from engine.runs.push import push
from engine.runs.push_admission import PushRequest
from engine.runs.queries import CohortQueries
from engine.runs.shared_ledger import LockWait
from engine.source.protocol import files_of
from engine.sync.hints import in_sync
from engine.sync.lending import LendableSlots
from engine.sync.request import Phase
from engine.sync.up_to_date import has_completed
from engine.sync.workspace_sync import WorkspaceSync

if TYPE_CHECKING:
    from engine.ledger.run_records import RunEntry
    from engine.report.forecast import CohortForecast
    from engine.report.run_results import Opening, RunResult
    from engine.source.protocol import Source
    from engine.source.spec import SourceSpec

_SAME_NIGHT_NS = 12 * 3600 * 1_000_000_000
_DAY_NS = 24 * 3600 * 1_000_000_000


class CohortRun:
    """Carries out one cohort of a sync."""

    def __init__(self, cohort: CohortSettings, workspace: WorkspaceSync) -> None:
        self.cohort = cohort
        self.switch = StopSwitch()
        """Stops this cohort alone; the sync's switch pulls it, too."""
        self._workspace = workspace
        self._sync = workspace.sync
        self._ceiling = workspace.ceiling
        self._rank = workspace.ceiling.ranks[cohort.key]
        self._forecast: CohortForecast | None = None
        self._is_unauthorized = False
        self._slots = LendableSlots(self._note)
        self._action = cohort.push_action
        """What a push does; None for a mirror."""
        self._queries = CohortQueries(
            *(workspace.queries, cohort.cohort, self._action, self.switch, self._note),
            cohort.guards.uid_pattern,
        )

    async def run(self) -> CohortResult:
        """Sync the cohort. An error is part of the result; only a cancellation is raised."""
        try:
            async with self._queries:
                result = await self._run()
        except CohortSyncError as error:
            result = self._failed(error)
        except Exception as error:  # noqa: BLE001 - a bug in one cohort must not stop the others
            reason = f"a bug, {type(error).__name__}"
            result = self._result(CohortStatus.FAILED, ExitStatus.UNBALANCED, reason, bug=error)
        self._ceiling.work.note_done(self.cohort.key)
        self._enter(Phase.ENDED)
        return result

    async def _run(self) -> CohortResult:
        spec = None
        if self.cohort.wait_for is not None:
            # It holds no slot meanwhile, so that other cohorts are planned and sent.
            self._enter(Phase.WAITING_FOR_EXPORT)
            spec = await self._resolve()
        self._enter(Phase.QUEUED)
        async with self._ceiling.slots.held(self._rank) as slot:
            with self._slots.under_way_in(slot):
                return await self._under_way(spec)

    async def _under_way(self, spec: "SourceSpec | None") -> CohortResult:
        self.switch.refuse_if_pulled()
        await self._wait_for_others()
        with self._slots.waiting("its export"):
            spec = spec or await self._resolve()
        return await self._carry_out(spec)

    async def _wait_for_others(self) -> None:
        """Wait until no other process works on the cohort: it may complete this export."""
        if self._sync.request.is_dry:
            return
        session, key = self._workspace.session, self._workspace.key_of(self.cohort)
        waiting = LockWait(self._sync.request.wait_seconds, self.switch, self._note)
        with self._slots.waiting("another process"):
            async with session.holding(key, waiting):
                pass

    async def _resolve(self) -> "SourceSpec":
        """Return which files the export has on the day of the sync, once they are there."""
        return await resolve(
            ConfiguredExport.of(self.cohort),
            self._sync.dates[self.cohort.key],
            Surroundings(self._sync.clock, self.switch, self._note, self._queries),
        )

    async def _carry_out(self, spec: "SourceSpec") -> CohortResult:
        source, opened = await self._open(spec)
        if (repeated := await self._up_to_date(source, opened)) is not None:
            return repeated
        key = self._workspace.key_in_use
        result = await self._send(opened, source)
        if result.exit_status is ExitStatus.REFUSED and await self._has_another_key(key):
            self._note("the API refused the key, which has been replaced since: it is tried again")
            source, opened = await self._open(spec)
            result = await self._send(opened, source)
        accounts = result.accounts
        return self._result(
            status_named(accounts.status),
            result.exit_status,
            accounts.reason,
            result.hint,
            run=result,
            members=await self._workspace.members(self.cohort) if self._action is None else None,
            bug=result.bug,
        )

    async def _has_another_key(self, refused: str | None) -> bool:
        """Return whether there is another API key than the one that the API refused with a 401."""
        if not self._is_unauthorized or self.switch.is_pulled:
            return False
        try:
            return await self._workspace.renew_key(refused)
        except CohortSyncError as error:
            self._note(f"the API key is not read again: {error.message}", label="warning")
            return False

    async def _open(self, spec: "SourceSpec") -> "tuple[Source, SourceSpec]":
        """Return the opened export, and the spec as the ledger keeps it."""
        with self._slots.waiting("its export"):
            if self._action is None:
                return await open_desired(spec, note=self._note, switch=self.switch), spec
            rereadable = self.cohort.on_changed == "restart" or self._is_counted
            return await open_push(spec, note=self._note, switch=self.switch, rereadable=rereadable)

    async def _up_to_date(self, source: "Source", spec: "SourceSpec") -> CohortResult | None:
        """Return the result of a cohort whose export has been completed before; None for another.

        The guard `age` still judges the export, because nobody may have written a new one.
        """
        last = await self._workspace.last_run(self.cohort)
        if last is None:
            return None
        entry, files = last.record.entry, files_of(source)
        self._ceiling.work.expect(self.cohort.key, last.record.totals.sent, is_exact=False)
        now = self._sync.clock.stamp().utc_ns
        is_same = has_completed(last, self.cohort, files, spec)
        if not is_same or self._is_due_again(entry, now) or await self._is_replaced(entry):
            return None
        age = judge_age(files, now, self.cohort.guards.max_age_hours)
        if age.is_bad:
            raise GuardError(f"age: {age.sentence}", hint="write a new export, or raise the limit")
        return self._result(
            CohortStatus.UP_TO_DATE,
            ExitStatus(entry.exit_status or 0),
            f"run {entry.name} has completed this export{f': {entry.reason}' * bool(entry.reason)}",
            members=await self._workspace.members(self.cohort),
        )

    def _is_due_again(self, last: "RunEntry", now_utc_ns: int) -> bool:
        """Return whether a mirror of the same export may have something to send by now.

        A slice of the members is resent once a night, and rejected uids are tried again some days
        later, by the configuration.
        """
        settings = self._workspace.session.config.mirror
        age_ns = now_utc_ns - last.started_utc_ns
        is_resending = settings.resend_over_nights > 0 and self.cohort.mode == "mirror"
        resends = is_resending and age_ns >= _SAME_NIGHT_NS
        retries = bool(last.exit_status) and age_ns >= settings.retry_rejected_days * _DAY_NS
        return last.is_mirror and (resends or retries)

    async def _is_replaced(self, last: "RunEntry") -> bool:
        """Return whether a command has replaced the snapshot since the last mirror ended."""
        if not last.is_mirror or last.finished_utc_ns is None:
            return False
        generation = await self._workspace.generation(self.cohort)
        return generation is None or generation.made.utc_ns > last.finished_utc_ns

    async def _send(self, spec: "SourceSpec", source: "Source") -> "RunResult":
        cohort, request = self.cohort, self._sync.request
        session = self._workspace.session
        allowances = request.allowances.get(cohort.key, ())
        observers, precedence = self._observers(), self._precedence()
        if self._action is None:
            exclude = None
            if spec.exclude is not None:
                with self._slots.waiting("its exclusion list"):
                    exclude = await open_exclusion(
                        spec.exclude, note=self._note, switch=self.switch
                    )
            wanted = MirrorRequest(
                source,
                spec,
                cohort.cohort,
                allowances=allowances,
                reason=request.reason,
                wait_seconds=request.wait_seconds,
                guards=cohort.guards,
                synced_as=cohort.key,
                exclude=exclude,
            )
            return await mirror(
                wanted, session, observers, sends=not request.is_dry, precedence=precedence
            )
        pushed = PushRequest(
            source,
            spec,
            cohort.cohort,
            self._action,
            restart_if_changed=cohort.on_changed == "restart",
            allowances=allowances,
            reason=request.reason,
            wait_seconds=request.wait_seconds,
            guards=cohort.guards,
            synced_as=cohort.key,
        )
        if request.is_dry:
            async with self._planning():
                with self._slots.waiting("its export"):
                    return await dry_run(pushed, session, observers)
        if self._is_counted:
            with self._slots.waiting("its export"):
                await self._count(pushed)
        return await push(pushed, session, observers, precedence=precedence)

    @property
    def _is_counted(self) -> bool:
        """Whether a push is counted before it begins, since a deadline may prevent a cohort's."""
        has_deadline = any(each is not None for each in self._ceiling.deadlines.values())
        return has_deadline and self._sync.settings.on_late == "refuse"

    async def _count(self, request: PushRequest) -> None:
        """Count the requests of a push, which has no plan to forecast its end by."""
        async with self._planning():
            requests = await requests_left(request, self._workspace.session, self.switch)
        self._ceiling.work.expect(self.cohort.key, requests, is_exact=True)

    def _observers(self) -> RunObservers:
        return RunObservers(
            observe=self._observe,
            opened=self._opened,
            planned=self._planned,
            note=self._note,
            switch=self.switch,
        )

    def _precedence(self) -> Precedence:
        return Precedence(
            rank=self._rank,
            planning=self._planning,
            compare=self._slots.regain_planning,
            computing=lambda: self._sync.computing.held(self._rank),
            waiting=self._slots.waiting,
            admit=self._admit,
        )

    @asynccontextmanager
    async def _planning(self) -> AsyncIterator[None]:
        async with self._sync.planning.held(self._rank) as slot:
            self._enter(Phase.PLANNING)
            with self._slots.planned_in(slot):
                yield

    async def _admit(self) -> None:
        """Let the run send, unless it would miss its deadline and must not begin then."""
        self._enter(Phase.READY)
        key = self.cohort.key
        now = self._sync.clock.stamp().utc_ns
        forecasts = self._ceiling.work.forecasts(now)
        self._forecast = found = forecasts[key]
        if found.deadline_utc_ns is None or self._sync.settings.on_late != "refuse":
            return
        if found.is_late:
            share = int(found.share_by_deadline * 100)
            raise GuardError(
                f"late: {share} % of {found.requests:,} requests could be sent by its deadline",
                hint="begin earlier, move `deadline`, or set `sync.on_late`",
            )
        before = takewhile(lambda each: each != key, forecasts)
        if unknown := [each for each in before if not forecasts[each].is_exact]:
            names = ", ".join(unknown)
            self._note(
                f"its deadline is judged without {names}, whose requests are not counted yet",
                label="warning",
            )

    def _observe(self, event: RunEvent) -> None:
        if self._sync.notices is not None:
            self._sync.notices.observe(self.cohort.key, event.event)
        match event.event:
            case Sent():
                self._workspace.note_sent(self.cohort)
            case Answered(http_status=401):
                self._is_unauthorized = True
            case Paused():
                self._note(event.event.sentence)
            case Waiting():
                self._enter(Phase.SETTLING)
                self._slots.release()  # Its remaining work needs no place among those that plan.
            case _:
                pass
        self._sync.observers.observe(event)

    def _opened(self, opening: "Opening") -> None:
        self._sync.observers.opened(self.cohort.key, opening)

    def _planned(self, plan: dict[str, Any]) -> None:
        self._ceiling.work.expect(
            self.cohort.key,
            plan["requests"],
            is_exact=True,
            settle_seconds=plan["settle_seconds"],
        )
        self._sync.observers.planned(self.cohort.key, plan)
        self._workspace.tell_forecast()

    def _note(self, text: str, *, label: str | None = None) -> None:
        key = self.cohort.key
        self._sync.observers.note(f"{key}: {in_sync(text, key)}", label=label)

    def _enter(self, phase: Phase) -> None:
        self._sync.observers.phase(self.cohort.key, phase)

    def _failed(self, error: CohortSyncError) -> CohortResult:
        """Return the result of a cohort that could not begin."""
        status: CohortStatus | RunStatus = CohortStatus.FAILED
        if error.exit_status is ExitStatus.GUARDED:
            status = RunStatus.GUARDED
        elif isinstance(error, MissingExportError):
            status = CohortStatus.MISSING
        elif error.exit_status is ExitStatus.INCOMPLETE and self.switch.is_pulled:
            status = CohortStatus.NOT_BEGUN
        return self._result(status, error.exit_status, error.message, error.hint)

    def _result(
        self,
        status: CohortStatus | RunStatus,
        exit_status: ExitStatus,
        reason: str | None,
        hint: str | None = None,
        **further: Any,  # noqa: ANN401 - the fields of the result, each as it has it
    ) -> CohortResult:
        cohort = self.cohort
        return CohortResult(
            cohort.key,
            self._workspace.name,
            cohort.id,
            cohort.name,
            cohort.mode,
            status,
            exit_status,
            reason,
            hint and in_sync(hint, cohort.key),
            forecast=self._forecast,
            owner=cohort.owner,
            **further,
        )
