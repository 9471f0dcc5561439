"""The cohorts of one workspace in a sync, which share a session."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.config.cohort_settings import CohortSettings
from engine.config.loading import Config
from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError
from engine.ledger.sync_records import SyncRecord
from engine.model.cohort import CohortKey
from engine.report.forecast import forecast_sentence
from engine.runs.evaluation import is_evaluated
from engine.runs.queries import Queries, SharedRead
from engine.runs.session import WorkspaceSession
from engine.runs.shared_ledger import LockWait
from engine.sync.context import SyncContext
from engine.sync.shared_ceiling import SharedCeiling

if TYPE_CHECKING:
    from engine.ledger.run_records import LastRun
    from engine.ledger.snapshot_records import Generation
    from engine.report.sync_result import CohortResult


def _values(
    cohorts: Sequence[CohortSettings], sync: SyncContext, config: Config
) -> dict[SharedRead, list[str | None]]:
    """Return which values of a query that several cohorts share are read together."""
    found: dict[SharedRead, list[str | None]] = {}
    for each in cohorts:
        if each.query is None or each.query.cohort_column is None:
            continue
        is_mirror = each.mode == "mirror"
        if not (is_mirror and is_evaluated(config, each.query, each.guards.uid_pattern)):
            query = each.query.of(None).on(sync.dates[each.key])
            found.setdefault(SharedRead(query, each.column), []).append(each.query.value)
    return found


class WorkspaceSync:
    """The resources that the cohorts of one workspace share in a sync."""

    def __init__(
        self,
        name: str,
        session: WorkspaceSession,
        sync: SyncContext,
        cohorts: Sequence[CohortSettings],
        ceiling: SharedCeiling,
    ) -> None:
        """`cohorts` are in the order in which they are sent."""
        self.name = name
        self.session = session
        self.sync = sync
        self.cohorts = cohorts
        self.ceiling = ceiling
        self.queries = Queries(session, _values(cohorts, sync, session.config))
        """The queries of the cohorts; whoever makes this closes them."""
        self._renewing = asyncio.Lock()

    def key_of(self, cohort: CohortSettings) -> CohortKey:
        """Return the key of a cohort in the workspace's ledger."""
        return CohortKey(self.session.config.workspace.partner, cohort.id)

    def note_sent(self, cohort: CohortSettings) -> None:
        """Count a request of a cohort."""
        self.ceiling.work.note_sent(cohort.key)
        self.ceiling.use.note_sent(self.sync.clock.stamp().utc_ns)
        self.sync.note_sent()

    @property
    def waiting(self) -> LockWait:
        """How the sync waits for another process that creates or migrates the ledger.

        A stop does not end the wait: how the cohorts ended is recorded after it.
        """
        return LockWait(self.sync.request.wait_seconds, StopSwitch(), self.sync.observers.note)

    async def last_run(self, cohort: CohortSettings) -> "LastRun | None":
        """Return the last run of a cohort; None if there is none."""
        async with self.session.using_ledger(self.waiting) as ledger:
            return await ledger.last_run(self.key_of(cohort))

    async def members(self, cohort: CohortSettings) -> int | None:
        """Return how many members a mirrored cohort has by its snapshot; None if it is unknown."""
        generation = await self.generation(cohort)
        return None if generation is None else generation.members

    async def generation(self, cohort: CohortSettings) -> "Generation | None":
        """Return the current snapshot of a cohort; None without one, or if it cannot be read."""
        try:
            async with self.session.using_ledger(self.waiting) as ledger:
                return await ledger.snapshots.current(self.key_of(cohort))
        except CohortSyncError:
            return None

    async def record_begin(self) -> None:
        """Record that the cohorts are to be synced."""
        await self._record([self._record_of(each) for each in self.cohorts])

    async def record(self, cohort: CohortSettings, result: "CohortResult") -> None:
        """Record how a cohort ended."""
        await self._record([self._record_of(cohort, result)])

    async def _record(self, records: Sequence[SyncRecord]) -> None:
        if not self.sync.request.is_dry:
            async with self.session.using_ledger(self.waiting) as ledger:
                await ledger.syncs.enter(records)

    def _record_of(
        self, cohort: CohortSettings, result: "CohortResult | None" = None
    ) -> SyncRecord:
        record = SyncRecord(
            self.sync.name,
            cohort.key,
            self.session.config.workspace.partner,
            cohort.id,
            self.sync.started_utc_ns,
            self.sync.dates[cohort.key].isoformat(),
        )
        if result is None:
            return record
        return record.ended(
            self.sync.clock.stamp().utc_ns,
            status=result.status.value,
            exit_status=int(result.exit_status),
            reason=result.reason,
            run=result.run and result.run.accounts.run,
            members=result.members,
        )

    @property
    def key_in_use(self) -> str | None:
        """The API key of the runs that begin now; only to be compared."""
        key = self.session.config.workspace.api_key
        return None if key is None else key.reveal()

    async def renew_key(self, refused: str | None) -> bool:
        """Read the API key again after a 401 for `refused`; return whether it is another one.

        Raises `ConfigError` if it cannot be read.
        """
        async with self._renewing:
            if self.key_in_use == refused:
                renewed = await asyncio.to_thread(self.session.config.with_key)
                if renewed.workspace.require_key().reveal() != refused:
                    self.session.renew(renewed)
            return self.key_in_use != refused

    def tell_forecast(self) -> None:
        """Pass on the forecast of all cohorts that are not done."""
        now = self.sync.clock.stamp().utc_ns
        found = self.ceiling.work.forecasts(now)
        sentence = forecast_sentence(list(found.items()), self.sync.zone, now)
        self.sync.observers.forecast(f"{self.name}: {sentence}", found)
