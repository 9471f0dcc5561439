"""One cohort of a sync, from its export to its result."""

from datetime import date

from engine.config.cohorts import CohortSettings
from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError, ExitStatus
from engine.report.forecast import CohortForecast
from engine.report.sync_result import CohortResult, CohortStatus
from engine.sync.request import Phase
from engine.sync.up_to_date import completed_before
from engine.sync.workspace import WorkspaceSync

_UNAUTHORIZED = 401


class CohortRun:
    """Carries out one cohort of a sync."""

    def __init__(
        self, cohort: CohortSettings, workspace: WorkspaceSync, rank: int, day: date
    ) -> None:
        """`rank` is its place in the order of sending, `day` the date in the names of its files."""
        self.cohort = cohort
        self.day = day
        self.switch = StopSwitch()
        """Stops this cohort alone; the sync's switch pulls it, too."""
        self._workspace = workspace
        self._sync = workspace.sync
        self._rank = rank
        self._forecast: CohortForecast | None = None
        self._is_unauthorized = False
        self._release_slot = lambda: None

    @property
    def key(self) -> str:
        """The cohort's key in the configuration."""
        return self.cohort.key

    async def run(self) -> CohortResult:
        """Sync the cohort; an error is a result, and only a cancellation is raised."""
        try:
            result = await self._run()
        except CohortSyncError as error:
            result = self._failed(error)
        except Exception as error:  # noqa: BLE001 - a bug in one cohort must not stop the others
            result = self._result(
                CohortStatus.FAILED,
                ExitStatus.UNBALANCED,
                f"a bug, {type(error).__name__}",
                bug=error,
            )
        self._workspace.work.note_done(self.key)
        self._tell(Phase.ENDED)
        return result

    async def _run(self) -> CohortResult:
        spec = None
        if self.cohort.wait_for is not None:  # Others may use the slot meanwhile.
            self._tell(Phase.WAITING_FOR_EXPORT)
            spec = await self._resolve()
        self._tell(Phase.QUEUED)
        async with self._workspace.slots.held(self._rank) as release:
            self._release_slot = release
            self.switch.refuse_if_pulled()
            spec = spec or await self._resolve()
            done = await completed_before(self.cohort, spec, self._workspace)
            if done is not None:
                return self._up_to_date(done)
            result = await self._carry_out(spec)
            if self._is_unauthorized and await self._workspace.renew_key():
                self._note("the API key was refused and has been read again: once more", "note")
                result = await self._carry_out(spec)
        return await self._of_run(result)
