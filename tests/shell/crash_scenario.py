"""A night in which processes die, against a model of the cohort: a set.

`Night` runs a command until it is through, however often its process dies on the way, and holds
every law after each of them: the books balance, each uid stands in exactly one place, nothing is
sent without a durable intent or after its acceptance, and no window holds more than it may.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from far_side import ACCEPT, FarSide, Play, Request, Stage, failure
from whole_push import Death, Pushes

from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.errors import ExitStatus
from engine.ledger.sqlite.history import RunHistory
from engine.ledger.sqlite.reader import reading
from engine.model.cohort import Action
from engine.pacing.settings import PacingSettings
from engine.report.accounts import Standing
from engine.report.history import RunReport
from engine.source.block import BLANK
from exports import Export, Row

WEATHER: dict[str, Play] = {
    "fine": ACCEPT,
    "slow": Play(seconds=3.0),
    "500": Play(500, applied_after=None),
    "500 applied": Play(500),
    "500 applied late": Play(500, applied_after=8.0),
    "500 applied much later": Play(500, applied_after=1e6),
    "429": Play(429, failure("Rate Limits Exceeded"), applied_after=None),
    "413": Play(413, applied_after=None),
    "408 applied": Play(408, b"<html>"),
    "429 applied": Play(429, b"<html>"),
    "lie": Play(200, b"<html>"),
    "reset": Play(stage=Stage.WAITING, error=ConnectionResetError, applied_after=None),
    "reset applied": Play(stage=Stage.WAITING, error=ConnectionResetError),
    "reset applied late": Play(stage=Stage.READING, error=ConnectionResetError, applied_after=8.0),
    "unreachable": Play(stage=Stage.CONNECTING, error=OSError, applied_after=None),
    "hang": Play(stage=Stage.WAITING),
}
"""What a request may meet, by name."""
MISFIT = "x" * 500


@dataclass(frozen=True)
class Process:
    """One start of the command, and what becomes of it."""

    weather: tuple[str, ...] = ()
    """What each of its requests meets, in their order; fine thereafter."""
    death: Death | None = None
    signals: tuple[float, ...] = ()
    """Seconds after which it is told to stop."""
    reboots: bool = False
    """Whether the machine has booted since the last one."""
    pause: float = 1.0
    """Seconds since the last one ended."""
    uids_per_payload: int = 4
    """What the limit on payloads leaves room for."""


@dataclass(frozen=True)
class Run:
    """One command: what it is to do, and its processes but for the last, which meets no trouble."""

    action: Action
    uids: range
    processes: tuple[Process, ...] = ()

    misfit: bool = False
    """Whether there is also a uid that fits into no payload."""

    @property
    def name(self) -> str:
        return f"{self.action}-{self.uids}-{self.misfit}"

    @property
    def export(self) -> Export:
        rows = [Row(f"u{number:04}") for number in self.uids]
        middle = [Row(reason=BLANK), *([Row(MISFIT)] if self.misfit else [])]
        return Export([rows[:3] + middle + rows[3:], [Row(reason="bad"), Row("last")]])


@dataclass
class Night:
    """A workspace on which commands are run, and what its cohort ought to hold."""

    folder: Path
    poison: frozenset[str] = frozenset()
    most_uids: int = 10**9
    members: set[str] = field(default_factory=set)
    """What the cohort ought to hold: the model."""
    deaths: int = 0
    lost_answers: int = 0
    """Requests that the API had received when the process that had sent them died."""

    def __post_init__(self) -> None:
        self.far_side = FarSide(poison=self.poison, most_uids=self.most_uids)
        self.pushes = Pushes(
            self.folder,
            self.far_side,
            pacing=PacingSettings(6, 3.0),
            delivery=DeliverySettings(max_in_flight=4, timeout_seconds=5.0, drain_seconds=3.0),
            retry=RetrySettings(max_attempts=3),
            watch=self._watch,
        )
        self._run = Run(Action.ADD, range(0))
        self._uids: list[str] = []
        self._runs_before = 0
        self._accepted: set[str] = set()

    def fill(self, uids: range) -> None:
        """Let the cohort hold so many from the start."""
        self.members = {f"u{number:04}" for number in uids}
        self.far_side.members = set(self.members)

    def carry_out(self, run: Run) -> None:
        """Run a command until it is through, and compare the cohort with the model."""
        self._run, self._accepted = run, set()
        self.far_side.taken = set()
        with reading(self.pushes.ledger) as ledger:
            (self._runs_before,) = ledger.execute(
                "SELECT coalesce(max(run), 0) FROM run"
            ).fetchone()
        self._uids = run.export.uids
        # Whatever trouble left unconfirmed or half done, two quiet processes deliver.
        for process in (*run.processes, Process(), Process()):
            if self._start(process):
                break
        else:
            raise AssertionError("it is never through")
        rejected = {*self.poison, MISFIT} & set(self._uids)
        if run.action is Action.ADD:
            self.members |= set(self._uids) - rejected
        else:
            self.members -= set(self._uids) - rejected
        self.far_side.catch_up()
        assert self.far_side.members == self.members
        planned = len(self._uids)
        assert self._books() == Standing(planned, planned - len(rejected), len(rejected))

    def _start(self, process: Process) -> bool:
        """Start the command; return whether the run is through."""
        run, pushes = self._run, self.pushes
        pushes.uids_per_payload = process.uids_per_payload
        pushes.machine.pause(process.pause, reboot=process.reboots)
        self.far_side.script = partial(_meet, iter(process.weather))
        ended = pushes.push(
            run.export, run.action, death=process.death, stops_at=process.signals, name=run.name
        )
        self._assert_pace()
        if ended.died:
            self.deaths += 1
            concluded = ended.passed["before conclude"] + ended.passed["before conclude split"]
            self.lost_answers += ended.passed["arrived"] > concluded
        else:
            assert ended.result, ended.error
            assert ended.result.exit_status is not ExitStatus.UNBALANCED
        books = self._books()
        with reading(pushes.ledger) as ledger:
            found = self._find(ledger)
            return books is not None and found[2] == "finished"

    # The laws.

    def _find(self, ledger: sqlite3.Connection) -> Any:  # noqa: ANN401 - a row
        return ledger.execute(
            "SELECT run, name, status FROM run WHERE run > ?", (self._runs_before,)
        ).fetchone()

    def _books(self) -> Standing | None:
        """Return where the uids stand, once that has been proven; None if nothing is known."""
        with reading(self.pushes.ledger) as ledger:
            found = self._find(ledger)
            if found is None:
                return None
            accounts = RunReport(RunHistory(ledger), self.pushes.ledger.parent, found[1]).accounts()
            leaves = ledger.execute(
                "SELECT first_uid, uid_count, state, may_have_been_applied OR EXISTS (SELECT 1 "
                "FROM attempt AS a WHERE a.run = b.run AND a.batch = b.batch AND outcome IS NULL) "
                "FROM batch AS b WHERE run = ? AND state <> 'split' ORDER BY first_uid",
                (found[0],),
            ).fetchall()
        assert accounts.imbalance is None
        self._assert_each_stands_once(leaves)
        return accounts.uids

    def _assert_pace(self) -> None:
        """No window holds more than it may: by what was seen to leave, and by the ledger."""
        with reading(self.pushes.ledger) as ledger:
            log = ledger.execute(
                "SELECT sent_utc_ns / 1e9 FROM attempt WHERE sent_utc_ns IS NOT NULL "
                "AND reason IS NOT 'the process died before it knew the outcome' ORDER BY 1"
            ).fetchall()
        pace = self.pushes.pacing
        seen = [request.at for request in self.far_side.arrived]
        for times in (seen, [at for (at,) in log]):
            for early, late in zip(times, times[pace.requests :], strict=False):
                assert late - early > pace.per_seconds

    def _assert_each_stands_once(self, leaves: Sequence[Any]) -> None:
        planned = 0
        for first, count, state, may_have_been_applied in leaves:
            assert first == planned, "a uid stands in two places, or in none"
            planned += count
            uids = self._uids[first:planned]
            if state == "accepted":
                self._accepted.update(uids)
            elif not may_have_been_applied:
                assert self.far_side.taken.isdisjoint(uids), "pending is certainly not applied"
        assert planned <= len(self._uids)
        assert self._accepted <= self.far_side.taken, "it claims what the API did not take"

    def _watch(self, stage: str, request: Request) -> None:
        """Nothing leaves without its intent on the disk, or once it has been accepted."""
        if stage != "sent":
            return
        assert self._accepted.isdisjoint(request.uids)
        first = self._uids.index(request.uids[0])
        with closing(sqlite3.connect(self.pushes.ledger)) as another:
            intents = another.execute(
                "SELECT count(*) FROM attempt JOIN batch USING (run, batch) "
                "WHERE outcome IS NULL AND state = 'open' AND first_uid = ? AND uid_count = ? "
                "AND run = (SELECT max(run) FROM run)",
                (first, len(request.uids)),
            ).fetchone()
        assert intents == (1,)


def _meet(weather: Iterator[str], request: Request) -> Play:
    met = next(weather, "fine")
    # A single uid that is too large would be written off, and rightly.
    return ACCEPT if met == "413" and len(request.uids) == 1 else WEATHER[met]
