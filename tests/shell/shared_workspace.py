"""A workspace with several cohorts: a state folder, processes that work on it, and its API."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import aiohttp
import orjson
from scripted_server import Play, Request, ScriptedServer, Session
from whole_push import Death, Ended, ExportSource, Pushes

from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.errors import CohortSyncError, ExitStatus, IncompleteError
from engine.model.cohort import Action, Cohort
from engine.pacing.settings import PacingSettings
from engine.planning.guards import GuardSettings
from engine.report.history import all_runs
from engine.report.run_results import NothingToResume, ResumedRuns, RunResult
from engine.runs.arguments import Observers, no_note
from engine.runs.context import RunObservers
from engine.runs.mirror import mirror
from engine.runs.planner import MirrorRequest
from engine.runs.push import push
from engine.runs.push_admission import PushRequest
from engine.runs.resume import resume, resume_all
from engine.runs.session import WorkspaceSession
from engine.snapshot.settings import MirrorSettings
from engine.source.spec import SourceSpec
from exports import Export, Row

if TYPE_CHECKING:
    from engine.delivery.events import RunEvent

REQUESTS, PER_SECONDS = 6, 3.0
SETTLE = 20.0


class Api(ScriptedServer):
    """A workspace's cohorts: uid `a-0001` belongs to cohort `a`."""

    def __init__(self) -> None:
        super().__init__()
        self.cohorts: dict[str, ScriptedServer] = {}

    def session(self, timeout: aiohttp.ClientTimeout) -> Session:
        return Session(self, timeout.connect)

    def begin(self, data: bytes) -> tuple[Request, Play]:
        cohort = self.cohort(orjson.loads(data)["parameters"]["cohort_id"])
        cohort.script = self.script
        return cohort.begin(data)

    def arrive(self, request: Request, play: Play) -> None:
        self.arrived.append(request)
        self.cohort(cohort_of(request)).arrive(request, play)

    def cohort(self, name: str) -> ScriptedServer:
        return self.cohorts.setdefault(name, ScriptedServer())

    def members_of(self, name: str) -> set[str]:
        """Return who is in once everything is applied."""
        self.cohort(name).catch_up()
        return self.cohort(name).members

    def assert_one_ceiling(self) -> None:
        """Whatever sent them: no window holds more requests than it may."""
        times = [request.at for request in self.arrived]
        for early, late in zip(times, times[REQUESTS:], strict=False):
            assert late - early > PER_SECONDS


def cohort_of(request: Request) -> str:
    return request.uids[0].partition("-")[0]


@dataclass(frozen=True)
class Job:
    """A run of one cohort, and what the cohort ought to hold when it has ended."""

    cohort: str
    uids: range
    action: Action | None
    """None for a mirror."""
    wait_seconds: float = 0.0

    @property
    def names(self) -> list[str]:
        return [f"{self.cohort}-{number:04}" for number in self.uids]

    @property
    def source(self) -> ExportSource:
        """The export, whose name says what is in it."""
        name = f"{self.cohort} {self.uids.start} {self.uids.stop}"
        return ExportSource(Export([[Row(name) for name in self.names]]), name)

    def start(self, session: WorkspaceSession, observers: RunObservers) -> Any:  # noqa: ANN401 - a coroutine
        cohort = Cohort(self.cohort, f"Cohort {self.cohort}")
        source = self.source
        if self.action is None:
            wanted = MirrorRequest(source, source.spec, cohort)
            return mirror(replace(wanted, wait_seconds=self.wait_seconds), session, observers)
        request = PushRequest(source, source.spec, cohort, self.action)
        return push(replace(request, wait_seconds=self.wait_seconds), session, observers)

    def applied_to(self, members: set[str]) -> set[str]:
        if self.action is None:
            return set(self.names)
        added = self.action is Action.ADD
        return members | set(self.names) if added else members - set(self.names)


async def _open_again(spec: SourceSpec, **_: object) -> ExportSource:
    """Open the export of a job, which a run is resumed with."""
    cohort, *span = spec.names[0].split()
    return Job(cohort, range(*map(int, span)), None).source


class _DoneError(CohortSyncError):
    """All runs have ended."""


@dataclass
class Workspace:
    """A state folder, and the processes that work on it."""

    folder: Path
    api: Api = field(default_factory=Api)

    def __post_init__(self) -> None:
        self.pushes = Pushes(
            self.folder,
            self.api,
            uids_per_payload=3,
            pacing=PacingSettings(REQUESTS, PER_SECONDS),
            delivery=DeliverySettings(max_in_flight=4, timeout_seconds=5.0, drain_seconds=3.0),
            retry=RetrySettings(max_attempts=3),
            mirroring=MirrorSettings(settle_seconds=SETTLE),
            guards=GuardSettings(max_removals=1.0, max_additions=1e9),
        )
        self.told: list[RunEvent] = []

    def run(
        self,
        jobs: Sequence[Job],
        *,
        death: Death | None = None,
        stops_at: tuple[float, ...] = (),
        leaves_at: float | None = None,
        resumes: int = 0,
    ) -> list[RunResult]:
        """Run all jobs at once in one session; return the results, none if the process dies.

        The session is left after `leaves_at` seconds, whatever is under way. Besides, `resumes`
        others resume all unfinished runs. A job that a stop prevents from beginning has no result.
        """
        tasks: list[asyncio.Task[Any]] = []

        async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
            observers = replace(observers, observe=self.told.append)
            begun = [job.start(session, observers) for job in jobs]
            begun += [self.resume_all(session) for _ in range(resumes)]
            tasks.extend(map(asyncio.ensure_future, begun))
            await asyncio.wait(tasks, timeout=leaves_at)
            raise _DoneError("done")

        ended = self.live(start, death, stops_at)
        self.assert_laws()
        if ended.died:
            return []
        assert isinstance(ended.error, _DoneError), ended.error
        return self._results_of(tasks, is_stopped=bool(stops_at) or leaves_at is not None)

    def _results_of(
        self, tasks: Sequence[asyncio.Task[Any]], *, is_stopped: bool
    ) -> list[RunResult]:
        results = []
        for task in tasks:
            assert task.done()
            assert not task.cancelled()
            error = task.exception()
            if error is not None:
                assert is_stopped, error
                assert isinstance(error, IncompleteError)
                assert error.message.startswith(("a signal", "the engine was closed"))
            elif isinstance(task.result(), RunResult):
                results.append(task.result())
            elif isinstance(task.result(), ResumedRuns):
                assert task.result().exit_status is not ExitStatus.UNBALANCED
        return results

    def resume(
        self,
        session: WorkspaceSession,
        run: str | None = None,
        **observers: Any,  # noqa: ANN401 - of a run
    ) -> Coroutine[Any, Any, RunResult | NothingToResume]:
        return resume(session, run, observers=Observers(**observers))

    async def resume_all(self, session: WorkspaceSession) -> ResumedRuns | NothingToResume:
        return await resume_all(
            session, note=no_note, switch=session.switch, follow=lambda _: nullcontext(Observers())
        )

    def live(
        self,
        start: Callable[[WorkspaceSession, RunObservers], Coroutine[Any, Any, RunResult]],
        death: Death | None = None,
        stops_at: tuple[float, ...] = (),
    ) -> Ended:
        """Run one process."""
        with patch("engine.runs.exports.open_exports", _open_again):
            return self.pushes._run(start, death, stops_at)

    def assert_laws(self) -> None:
        self.api.assert_one_ceiling()
        for accounts in all_runs(self.pushes.state):
            assert accounts.imbalance is None
            assert accounts.status != "running"

    def another_session(self) -> WorkspaceSession:
        """Return a session as of another process: locks exclude the two from each other."""
        return WorkspaceSession(self.pushes.config(), clock=self.pushes.machine)

    def query(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.pushes.ledger)) as ledger, ledger:
            return ledger.execute(sql).fetchall()
