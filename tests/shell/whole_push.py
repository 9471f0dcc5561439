"""Whole pushes in virtual time: the engine as the command line calls it, on a real ledger.

Only the network, the clock and the two threads are played. A push may die at any point, as by
kill -9: from there on nothing that it does has an effect, its connection commits no more, and the
files stay as they are at that moment, log and all.
"""

import asyncio
import inspect
import shutil
import sqlite3
from collections import Counter
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Self, TypeVar
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from scripted_server import Request, ScriptedServer
from stage import ReaderOnStage

from engine.clock import Stamp
from engine.config.loading import Config
from engine.delivery.events import Event, RunEvent
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError, ExitStatus
from engine.ledger.records import Division
from engine.ledger.sqlite.reader import LedgerReader
from engine.ledger.sqlite.schema import failure_of, open_ledger
from engine.model.cohort import Action, Cohort, CohortKey
from engine.model.endpoint import Endpoint
from engine.model.workspace import ApiKey, Workspace
from engine.pacing.settings import PacingSettings
from engine.payload.envelope import Envelope
from engine.payload.settings import PackingSettings
from engine.planning.settings import GuardSettings
from engine.report.run_results import RunResult
from engine.report.settings import AccountingSettings
from engine.runs.context import RunContext, RunObservers
from engine.runs.engines import store_of
from engine.runs.mirror import RollbackRequest, apply, mirror, rollback
from engine.runs.planner import MirrorRequest
from engine.runs.push import push
from engine.runs.push_admission import PushRequest
from engine.runs.session import WorkspaceSession
from engine.snapshot.settings import MirrorSettings
from engine.snapshot.store import SnapshotStore
from engine.source.block import Block
from engine.source.exclusion import ExcludingSource, Exclusion
from engine.source.protocol import Source, Spec
from engine.source.source_file import SourceFile
from engine.source.spec import SourceSpec
from engine.source.sql.connection import Connection
from engine.storage.paths import LEDGER_NAME, ledger_folder
from engine.storage.settings import PlanningSettings
from exports import Export, Row
from payloads import payload_of
from virtual_time import BOOT_UTC_NS, START, run_virtually

T = TypeVar("T")
Start = Callable[[WorkspaceSession, RunObservers], Coroutine[Any, Any, RunResult]]
"""Begins a command."""

PARTNER = "partner"
COHORT = Cohort("cohort-1", "Buyers")
ENDPOINT = Endpoint.parse("https://api.invalid")
"""Not loopback, where a refused connection has a meaning of its own; and it can't be reached."""
COMMIT_SECONDS = 0.005
PLANNING = PlanningSettings(memory_megabytes=64, threads=1)


def payload_bytes_for(uids: int) -> int:
    """Return the limit under which so many uids of five characters fit into a payload."""
    return len(payload_of(Envelope(PARTNER, COHORT, Action.REMOVE), ["u0000"] * uids))


@dataclass(frozen=True)
class Death:
    """The process dies when it gets to `point` for the `nth` time, or after so many `seconds`."""

    point: str = ""
    nth: int = 1
    seconds: float | None = None


class Life:
    """One process: whether it still lives, and what it has passed through."""

    def __init__(self, death: Death | None, on_death: Callable[[], None]) -> None:
        self._death = death
        self._on_death = on_death
        self.passed = Counter[str]()
        self.over = asyncio.Event()
        if death is not None and death.seconds is not None:
            asyncio.get_running_loop().call_later(death.seconds, self.end)

    def end(self) -> None:
        """Die, unless it is over already."""
        if not self.over.is_set():
            self.over.set()
            self._on_death()

    def reach(self, point: str) -> None:
        """Get to a point; past its death a process gets nowhere."""
        if not self.over.is_set():
            self.passed[point] += 1
            if self._death == Death(point, self.passed[point]):
                self.end()
        if self.over.is_set():
            raise asyncio.CancelledError


class Writer:
    """Writes as the ledger's thread does, in the loop, and dies before, in or behind a commit."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, life: Life, pragmas: tuple[str, ...]
    ) -> None:
        self._connection = connection
        self._path = path
        self._life = life
        # Nobody pulls the plug here: a process that dies takes nothing from the system's cache.
        for pragma in ("synchronous = OFF", *pragmas):
            connection.execute(f"PRAGMA {pragma}")

    async def write(
        self, function: Callable[[sqlite3.Connection], T], max_wait_seconds: float = 0.0
    ) -> T:
        name = _name_of(function)
        self._life.reach(f"before {name}")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            value = function(self._connection)
            self._life.reach(f"inside {name}")
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            failure = failure_of(error, self._connection, self._path)
            if failure is error:
                raise
            raise failure from error
        self._life.reach(f"after {name}")
        await asyncio.sleep(max_wait_seconds + COMMIT_SECONDS)
        return value

    async def close(self) -> None:
        self._connection.close()


def _name_of(function: Callable[..., object]) -> str:
    """Name a write by the store's function or method, and whether it splits a batch."""
    names = inspect.getclosurevars(function).nonlocals
    in_transaction = names.get("function")
    name = in_transaction.__name__ if in_transaction else function.__qualname__.split(".")[:2][-1]
    change = names.get("change")
    return f"{name} split" if isinstance(change, Division) else name


async def _at_once(function: Callable[..., T], *arguments: Any, **named: Any) -> T:  # noqa: ANN401 - whatever it takes
    """Stand in for a thread, which virtual time would not wait for."""
    return function(*arguments, **named)


@cache
def _empty_ledger() -> bytes:
    """Return the file of a ledger without runs; to make one waits for the disk each time."""
    with TemporaryDirectory() as folder:
        path = Path(folder, LEDGER_NAME)
        open_ledger(path).close()
        return path.read_bytes()


@dataclass(frozen=True)
class ExportSource:
    """Reads an export that is made up."""

    export: Export
    name: str = "export.csv"
    notes: tuple[str, ...] = ()
    is_rereadable: bool = True
    written_utc_ns: int | None = BOOT_UTC_NS

    @property
    def files(self) -> list[SourceFile]:
        uids = [sum(row.uid is not None for row in rows) for rows in self.export.files]
        return [
            SourceFile(f"file-{number}", None, self.written_utc_ns, count)
            for number, count in enumerate(uids)
        ]

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"files": [self.name]}

    @property
    def spec(self) -> SourceSpec:
        return SourceSpec((self.name,))

    def blocks(self) -> Iterator[Block]:
        yield from self.export.blocks(7)


@dataclass(frozen=True)
class ListOfChanges:
    """Rows that say add or remove: a source, and its own specification."""

    rows: Sequence[tuple[str, Action]]
    lists_changes = True
    names = ("changes",)
    notes = ()

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        return {"exports": list(self.names), "reading": {}}

    def open(self, *, rereadable: bool = False) -> Self:
        del rereadable
        return self

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.rows), 7):
            part = self.rows[start : start + 7]
            uids = pa.array([uid for uid, _ in part], pa.string())
            is_remove = np.array([says is Action.REMOVE for _, says in part])
            yield Block("changes", start + 1, len(part), uids, (), is_remove)


@dataclass
class Machine:
    """Its clocks: one that only grows, one since its boot, and one on the wall."""

    now_at_rest: float = START
    boots: int = 0
    booted_at: float = 0.0

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def stamp(self) -> Stamp:
        now = self.now()
        boot_ns = round((now - self.booted_at) * 1e9)
        return Stamp(f"boot-{self.boots}", boot_ns, BOOT_UTC_NS + round(now * 1e9))

    def pause(self, seconds: float, *, reboot: bool = False) -> None:
        """Let time pass between two processes."""
        self.now_at_rest += seconds
        if reboot:
            self.boots += 1
            self.booted_at = self.now_at_rest


@dataclass(frozen=True)
class Ended:
    """How a push ended; one that died has neither a result nor an error."""

    passed: Counter[str]
    events: list[Event]
    result: RunResult | None = None
    error: CohortSyncError | None = None

    @property
    def died(self) -> bool:
        return self.result is None and self.error is None

    @property
    def exit_status(self) -> ExitStatus | None:
        """What the command would exit with; None if it died."""
        if self.result is not None:
            return self.result.exit_status
        return None if self.error is None else ExitStatus(self.error.exit_status)


class DiedError(Exception):
    """The process that was to change the snapshots has died."""


class _DoneError(CohortSyncError):
    """Work on snapshots is done, which has no result of a run."""

    def __init__(self) -> None:
        super().__init__("done")


@dataclass
class Pushes:
    """A state folder, and the commands that are run on it one after the other."""

    folder: Path
    scripted_server: ScriptedServer
    uids_per_payload: int = 4
    pacing: PacingSettings = field(default_factory=lambda: PacingSettings(300, 60))
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    mirroring: MirrorSettings = field(default_factory=MirrorSettings)
    planning: PlanningSettings = PLANNING
    guards: GuardSettings = field(default_factory=GuardSettings)
    connections: Mapping[str, Connection] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)
    watch: Callable[[str, Request], None] = lambda _stage, _request: None
    """Called as `ScriptedServer.watch` is."""
    observe: Callable[[Event], None] = lambda _: None
    pragmas: tuple[str, ...] = ()
    """Set on the connection that writes."""
    _lives: int = 0

    def __post_init__(self) -> None:
        self.ledger.parent.mkdir(parents=True)
        self.ledger.write_bytes(_empty_ledger())

    @property
    def state(self) -> Path:
        return self.folder / f"state-{self._lives}"

    @property
    def ledger(self) -> Path:
        return ledger_folder(self.state, ENDPOINT.url, "WS") / LEDGER_NAME

    def push(  # noqa: PLR0913 - what to push, and what becomes of the process
        self,
        export: Export,
        action: Action = Action.ADD,
        *,
        death: Death | None = None,
        stops_at: tuple[float, ...] = (),
        name: str = "export.csv",
        exclude: Collection[str] | None = None,
        **how: Any,  # noqa: ANN401 - what a request takes besides
    ) -> Ended:
        """Run the command; it dies where `death` says, and is stopped at these seconds."""
        source = ExportSource(export, name)
        spec = source.spec
        read: Source = source
        if exclude is not None:
            block = Block("list", 1, len(exclude), pa.array(exclude, pa.string()), ())
            exclusion = Exclusion([block])
            spec = replace(spec, exclude=SourceSpec(("list",), digest=exclusion.digest))
            read = ExcludingSource(source, exclusion, {"list": 1})
        request = PushRequest(read, spec, COHORT, action, **how)
        return self._run(lambda *with_: push(request, *with_), death, stops_at)

    def mirror(  # noqa: PLR0913 - what to make of the cohort, and what becomes of the process
        self,
        wanted: Sequence[str] | Export | ListOfChanges,
        *,
        death: Death | None = None,
        stops_at: tuple[float, ...] = (),
        sends: bool = True,
        planned: Callable[[dict[str, Any]], None] = lambda _: None,
        written_utc_ns: int | None = BOOT_UTC_NS,
        **how: Any,  # noqa: ANN401 - what a request takes besides
    ) -> Ended:
        """Run the command on an export of these uids, as `push` does."""
        if isinstance(wanted, ListOfChanges):
            request = MirrorRequest(wanted, wanted, COHORT, **how)
        else:
            is_export = isinstance(wanted, Export)
            export = wanted if is_export else Export([[Row(uid) for uid in wanted]])
            source = ExportSource(export, written_utc_ns=written_utc_ns)
            request = MirrorRequest(source, source.spec, COHORT, **how)
        return self._run(
            lambda session, observers: mirror(
                request, session, replace(observers, planned=planned), sends=sends
            ),
            death,
            stops_at,
        )

    def rollback(self, generation: int, **how: Any) -> Ended:  # noqa: ANN401 - as above
        """Run the command that makes the cohort what it was."""

        def request(spec: Spec, cohort: Cohort) -> MirrorRequest:
            return MirrorRequest(spec.open(), spec, cohort, **how)

        asked = RollbackRequest(COHORT.id, generation, request)
        return self._run(lambda *with_: rollback(asked, *with_), None, ())

    def in_session(
        self,
        work: Callable[[SnapshotStore], Awaitable[T]],
        *,
        shadow: bool = False,
        catches_up: bool = True,
        death: Death | None = None,
    ) -> T:
        """Do something with the cohort's snapshots, as the commands of `snapshot` do.

        Raises `DiedError` where the process dies.
        """
        found: list[T] = []

        async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
            context = RunContext(session, CohortKey(PARTNER, COHORT.id, shadow), observers)
            async with context.open(0.0) as (_, store):
                if catches_up:
                    await store.catch_up()
                found.append(await work(store))
            raise _DoneError

        ended = self._run(start, death, ())
        if ended.died:
            raise DiedError
        if isinstance(ended.error, _DoneError):
            return found[0]
        assert ended.error is not None
        raise ended.error

    def look(self, work: Callable[[SnapshotStore], Awaitable[T]]) -> T:
        """Look at the cohort's snapshots beside whoever works on them."""
        folder, config = self.ledger.parent, self.config()
        key = CohortKey(PARTNER, COHORT.id)
        with LedgerReader.open(self.ledger, self.machine) as ledger:
            store = store_of(config, folder, ledger.snapshots, key, self.machine)
            return asyncio.run(work(store))  # type: ignore[arg-type] # a coroutine, in truth

    def apply(self, plan: str, first: int | None = None, stops_at: tuple[float, ...] = ()) -> Ended:
        """Run the command on a plan."""
        return self._run(lambda *with_: apply(plan, *with_, first=first), None, stops_at)

    def _run(self, start: Start, death: Death | None, stops_at: tuple[float, ...]) -> Ended:
        ended = run_virtually(
            lambda: self._live(start, death, stops_at), start=self.machine.now_at_rest
        )
        if ended.died:
            shutil.rmtree(self.state)
            self._lives += 1
        return ended

    def _leave_files(self) -> None:
        """Keep the files as they are now: closing the connection would put them in order."""
        shutil.copytree(self.state, self.folder / f"state-{self._lives + 1}")

    async def _live(self, start: Start, death: Death | None, stops_at: tuple[float, ...]) -> Ended:
        life = Life(death, self._leave_files)

        def watch(stage: str, request: Request) -> None:
            self.watch(stage, request)
            life.reach(stage)

        self.scripted_server.watch = watch
        events: list[Event] = []

        def observe(output: RunEvent) -> None:
            events.append(output.event)
            self.observe(output.event)

        async def carry_out() -> RunResult:
            async with WorkspaceSession(
                self.config(), clock=self.machine, switch=switch
            ) as session:
                return await start(session, RunObservers(observe=observe))

        switch = StopSwitch()
        for seconds in stops_at:
            asyncio.get_running_loop().call_later(seconds, switch.pull, "a signal")
        with self._played(life):
            command = asyncio.create_task(carry_out())
            dying = asyncio.create_task(life.over.wait())
            await asyncio.wait({command, dying}, return_when=asyncio.FIRST_COMPLETED)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        self.machine.now_at_rest = self.machine.now()
        if life.over.is_set():
            return Ended(life.passed, events)
        try:
            return Ended(life.passed, events, result=command.result())
        except CohortSyncError as error:
            return Ended(life.passed, events, error=error)

    def _played(self, life: Life) -> ExitStack:
        """Put what is played in the place of the real."""
        stack = ExitStack()
        parts = {
            "engine.ledger.sqlite.ledger.LedgerWriter": lambda connection, path: Writer(
                connection, path, life, self.pragmas
            ),
            "engine.delivery.sender.ReadAhead": ReaderOnStage,
            "engine.delivery.sender.random": SimpleNamespace(random=lambda: 0.5),
            "engine.delivery.transport.open_http_session": lambda _workspace, timeout, **_: (
                self.scripted_server.session(timeout)
            ),
        }
        for place in ("engine.runs.export_staging", "engine.runs.transfer"):
            stack.enter_context(patch(f"{place}.read_or_stop", lambda read, *_: _at_once(read)))
        for place, part in parts.items():
            stack.enter_context(patch(place, part))
        return stack

    def config(self) -> Config:
        return Config(
            path=None,
            workspace=Workspace("WS", ApiKey("key", "test"), ENDPOINT, PARTNER),
            pacing=self.pacing,
            packing=PackingSettings(payload_bytes_for(self.uids_per_payload)),
            delivery=self.delivery,
            retry=self.retry,
            accounting=AccountingSettings(),
            state_dir=self.state,
            notes=(),
            mirror=self.mirroring,
            planning=self.planning,
            guards=self.guards,
            connections=self.connections,
        )
