"""A delivery on a stage: real packing, pacing and SQLite; the network and time are played.

What the API is asked, and what it then holds, is kept by `Api`, which knows nothing of the ledger:
the two are compared at the end.
"""

import asyncio
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ledger_entries import COMMAND, KEY, accounts_of

from engine.delivery.channel import Channel, DeliveredRun
from engine.delivery.events import Event
from engine.delivery.outcome import (
    Accepted,
    Exchange,
    Fatal,
    NotSent,
    Rejected,
    Throttled,
    TooLarge,
    Unconfirmed,
)
from engine.delivery.pipeline import Delivery
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.delivery.stop import Stop
from engine.delivery.transport import TakeTurn
from engine.errors import ExitStatus
from engine.ledger.records import ExecutionSettings
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.schema import open_ledger
from engine.model.status import RunStatus
from engine.pacing.pacer import Pacer
from engine.pacing.schedule import PastSend
from engine.pacing.settings import PacingSettings
from engine.payload.batch import Batch
from engine.payload.cutter import Cutter
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit
from engine.report.accounts import Accounts
from exports import Export, Row
from payloads import payload_of, uids_in
from virtual_time import START, VirtualClock, run_virtually

if TYPE_CHECKING:
    from engine.ledger.sqlite.writer import LedgerWriter

T = TypeVar("T")

ENVELOPE = Envelope(KEY.partner, KEY.cohort, KEY.action)

OK = Exchange(Accepted(), 200)
SERVER_ERROR = Exchange(Unconfirmed("500"), 500)
RESET = Exchange(Unconfirmed("reset"))
THROTTLED = Exchange(Throttled(None), 429)
TOO_LARGE = Exchange(TooLarge("413"), 413)
NAMED = Exchange(Rejected("400: uid", names_members=True), 400, "req-1")
UNNAMED = Exchange(Rejected("400", names_members=False), 400, "req-1")
UNAUTHORIZED = Exchange(Fatal("401", "check the key"), 401)
REFUSED = Exchange(NotSent("refused", nobody_listens=True))
UNREACHABLE = Exchange(NotSent("no route"))


@dataclass(frozen=True)
class Request:
    """What reaches the API, or would."""

    number: int
    """Which of all requests it is, from 1."""
    at: float
    """Seconds since the stage's first execution began."""
    payload: bytes
    uids: Sequence[str]


@dataclass
class Answer:
    """What becomes of a request; it `applies` if its uids are in the cohort afterwards."""

    exchange: Exchange
    applies: bool = False
    seconds: float = 0.1


def accept(_: Request) -> Answer:
    return Answer(OK, applies=True)


class Api:
    """Plays transport and API, and keeps its own count.

    `script` is asked twice: whether the request gets there, and again what comes back.
    """

    def __init__(self, script: Callable[[Request], Answer] = accept) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.members: set[str] = set()
        self.acknowledged: Counter[str] = Counter()
        self.tried = 0
        """How many requests were begun, those that never got there included."""
        self.witness: Callable[[], None] = lambda: None
        """Called when a request arrives, before it is counted."""

    async def send(self, payload: bytes, take_turn: TakeTurn) -> Exchange:
        self.tried += 1
        request = self._request(self.tried, payload)
        await asyncio.sleep(0.01)  # It connects.
        answer = self.script(request)
        if isinstance(answer.exchange.outcome, NotSent):
            return answer.exchange
        await take_turn()
        request = self._request(request.number, payload)
        answer = self.script(request)
        self.witness()
        self.requests.append(request)
        if answer.applies:
            self.members.update(request.uids)
        await asyncio.sleep(answer.seconds)
        if isinstance(answer.exchange.outcome, Accepted):
            self.acknowledged.update(request.uids)
        return answer.exchange

    @staticmethod
    def _request(number: int, payload: bytes) -> Request:
        at = asyncio.get_running_loop().time() - START
        return Request(number, at, payload, uids_in(payload))

    @property
    def sizes(self) -> list[int]:
        """How many uids each request carried."""
        return [len(request.uids) for request in self.requests]


class Killed(BaseException):
    """The process died here."""


class InlineWriter:
    """Writes as the ledger's thread does, in the loop; fails from its `fails_at`-th write on."""

    def __init__(self, connection: sqlite3.Connection, error: BaseException) -> None:
        self.connection = connection
        self.writes = 0
        self.fails_at = math.inf
        self._error = error

    async def write(
        self, function: Callable[[sqlite3.Connection], T], max_wait_seconds: float = 0.0
    ) -> T:
        self.writes += 1
        is_late = self.writes > self.fails_at
        # A full disk takes nothing; a process dies right behind the commit.
        if is_late or (self.writes == self.fails_at and not isinstance(self._error, Killed)):
            raise self._error
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            value = function(self.connection)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        if self.writes == self.fails_at:
            raise self._error
        await asyncio.sleep(max_wait_seconds + 0.005)
        return value


class ReaderOnStage:
    """Reads ahead as the thread does, four batches, in the loop."""

    def __init__(self, batches: Iterator[Batch], wake: Callable[[], None]) -> None:
        self._batches, self._wake = batches, wake
        self._ready: list[Batch] = []
        self.ended = False
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._fill()

    def take(self) -> Batch | None:
        if not self._ready:
            return None
        batch = self._ready.pop(0)
        asyncio.get_running_loop().call_soon(self._fill)
        return batch

    @property
    def is_dry(self) -> bool:
        return self.ended and not self._ready

    def stop(self) -> None:
        self.ended = True

    def _fill(self) -> None:
        try:
            while not self.ended and len(self._ready) < 4:
                self._ready.append(next(self._batches))
        except StopIteration:
            self.ended = True
        except Exception as error:  # noqa: BLE001 - handed on, as the thread does
            self.ended, self.failure = True, error
        self._wake()


@dataclass
class Execution:
    """What one execution came to."""

    stop: Stop | None
    accounts: Accounts
    events: list[Event]
    writes: int
    killed: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether the same command would begin a new run."""
        return self.stop is None and not self.killed and not self.accounts.uids.unconfirmed

    @property
    def exit_status(self) -> ExitStatus | None:
        return self.stop and self.stop.exit_status


@dataclass
class Stage:
    """An export, an API, and a ledger that stays from execution to execution."""

    folder: Path
    export: Export
    api: Api
    uids_per_payload: int = 10
    pacing: PacingSettings = field(default_factory=lambda: PacingSettings(300, 60))
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    source_error: Exception | None = None
    hint: str | None = None
    _now: float = START

    @property
    def path(self) -> Path:
        return self.folder / "ledger.sqlite"

    @property
    def payload_bytes(self) -> int:
        return len(payload_of(ENVELOPE, ["u0000"] * self.uids_per_payload))

    def run(
        self,
        *,
        stops_at: Sequence[float] = (),
        fails_at: float = math.inf,
        error: BaseException | None = None,
        payload_bytes: int | None = None,
    ) -> Execution:
        """Run the same command again; stop it at these seconds, break its ledger at a write."""
        execution = run_virtually(
            lambda: self._run(
                stops_at, fails_at, error or Killed(), payload_bytes or self.payload_bytes
            ),
            start=self._now,
        )
        assert execution.accounts.imbalance is None
        self._assert_law()
        return execution

    def _assert_law(self) -> None:
        """Never more than the ceiling in any window, whatever stopped or died in between."""
        sent = sorted(request.at for request in self.api.requests)
        for early, late in zip(sent, sent[self.pacing.most :], strict=False):
            assert late - early > self.pacing.per_seconds

    async def _run(
        self,
        stops_at: Sequence[float],
        fails_at: float,
        error: BaseException,
        payload_bytes: int,
    ) -> Execution:
        loop = asyncio.get_running_loop()
        clock = VirtualClock()
        connection = open_ledger(self.path)
        connection.execute("PRAGMA synchronous = OFF")  # Nobody pulls the plug on a stage.
        writer = InlineWriter(connection, error)
        ledger = Ledger(connection, self.path, clock, cast("LedgerWriter", writer))
        with closing(connection):
            await ledger.recover()
            limits = ExecutionSettings(
                self.pacing.requests,
                self.pacing.per_seconds,
                payload_bytes,
                self.pacing.hours_record(),
            )
            state = await ledger.runs.begin(KEY, COMMAND, limits)
            known = await ledger.runs.known_batches(state.run.number)
            cutter = Cutter(ENVELOPE, Limit.of(payload_bytes), known)
            recent = await ledger.sends.recent_sends(self.pacing.most)
            left_open = await ledger.runs.open_batches(state.run.number)
            writer.writes, writer.fails_at = 0, fails_at
            self.api.witness = lambda: self._assert_intent(connection)
            events: list[Event] = []
            pacer = Pacer(
                self.pacing,
                clock,
                [
                    PastSend(clock.now() - sent_ago, clock.now() - ended_ago)
                    for sent_ago, ended_ago in recent
                ],
            )
            channel = Channel(
                ledger.sends, clock, pacer, self.api, self.delivery, self.retry, self.hint
            )
            budget = pacer.open_budget()
            run = DeliveredRun(state, cutter.limit, events.append, budget, left_open)
            delivery = Delivery(
                channel,
                run,
                lambda wake: ReaderOnStage(cutter.batches(self._blocks()), wake),
                lambda: 0.5,
            )
            for number, seconds in enumerate(stops_at):
                hint = "run it again"
                stop = Stop(ExitStatus.INCOMPLETE, "a signal", hint, cancels=number > 0)
                loop.call_later(seconds, delivery.stop, stop)
            stop, killed = None, False
            try:
                stop = await delivery.run()
            except Killed:
                killed = True
            writes, writer.fails_at = writer.writes, math.inf
            accounts = accounts_of(ledger, state)
            self._now = clock.now() + 1
            if not killed:
                exit_status = stop.exit_status if stop else ExitStatus.ACCEPTED
                done = stop is None and not accounts.uids.unconfirmed
                status = RunStatus.FINISHED if done else RunStatus.INCOMPLETE
                reason = stop.reason if stop else None
                await ledger.runs.finish(state, status, exit_status, reason, pacer.record(budget))
            return Execution(stop, accounts, events, writes, killed)

    def _assert_intent(self, connection: sqlite3.Connection) -> None:
        """Nothing arrives whose intent is not on the disk."""
        [(intents,)] = connection.execute("SELECT count(*) FROM attempt").fetchall()
        assert intents > len(self.api.requests)

    def _blocks(self) -> Iterator[Any]:
        yield from self.export.blocks(7)
        if self.source_error is not None:
            raise self.source_error


def numbered(count: int) -> Export:
    """Return an export of so many uids of five characters, `u0000` and so on."""
    return Export([[Row(f"u{number:04}") for number in range(count)]])


def failing(
    at: Callable[[Request], bool],
    exchange: Exchange,
    *,
    applies: bool = False,
    seconds: float = 0.1,
) -> Callable[[Request], Answer]:
    """Answer so where `at` says so, and accept the rest."""

    def script(request: Request) -> Answer:
        return Answer(exchange, applies, seconds) if at(request) else accept(request)

    return script
