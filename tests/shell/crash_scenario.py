"""Commands whose processes die, compared with a model of the cohort: a set.

`CrashScenario` runs a command until it is through, however often its process dies, and checks every
law after each of them: the accounts balance, each uid is in exactly one place, nothing is sent
without a durable intent or after its acceptance, and no window holds more than it may.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scripted_server import ACCEPT, Play, Request, ScriptedServer, Stage, failure
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

REPLIES: dict[str, Play] = {
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
"""The replies to a request, by name."""
OVERSIZED = "x" * 500


@dataclass(frozen=True)
class Process:
    """One start of the command, and what becomes of it."""

    replies: tuple[str, ...] = ()
    """The reply to each of its requests, in their order; later ones are accepted."""
    death: Death | None = None
    signals: tuple[float, ...] = ()
    """Seconds after which it is stopped."""
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

    oversized: bool = False
    """Whether there is also a uid that fits into no payload."""

    @property
    def name(self) -> str:
        return f"{self.action}-{self.uids}-{self.oversized}"

    @property
    def export(self) -> Export:
        rows = [Row(f"u{number:04}") for number in self.uids]
        middle = [Row(reason=BLANK), *([Row(OVERSIZED)] if self.oversized else [])]
        return Export([rows[:3] + middle + rows[3:], [Row(reason="bad"), Row("last")]])


@dataclass
class CrashScenario:
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
        self.scripted_server = ScriptedServer(poison=self.poison, most_uids=self.most_uids)
        self.pushes = Pushes(
            self.folder,
            self.scripted_server,
            pacing=PacingSettings(6, 3.0),
            delivery=DeliverySettings(max_in_flight=4, timeout_seconds=5.0, drain_seconds=3.0),
            retry=RetrySettings(max_attempts=3),
            watch=self._watch,
        )
        self._run = Run(Action.ADD, range(0))
        self._uids: list[str] = []
        self._runs_before = 0
        self._accepted: set[str] = set()
        self._found: Any = None

    def fill(self, uids: range) -> None:
        """Let the cohort hold so many from the start."""
        self.members = {f"u{number:04}" for number in uids}
        self.scripted_server.members = set(self.members)

    def carry_out(self, run: Run) -> None:
        """Run a command until it is through, and compare the cohort with the model."""
        self._run, self._accepted = run, set()
        self.scripted_server.taken = set()
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
        rejected = {*self.poison, OVERSIZED} & set(self._uids)
        if run.action is Action.ADD:
            self.members |= set(self._uids) - rejected
        else:
            self.members -= set(self._uids) - rejected
        self.scripted_server.catch_up()
        assert self.scripted_server.members == self.members
        planned = len(self._uids)
        assert self._standing() == Standing(planned, planned - len(rejected), len(rejected))

    def _start(self, process: Process) -> bool:
        """Start the command; return whether the run is through."""
        run, pushes = self._run, self.pushes
        pushes.uids_per_payload = process.uids_per_payload
        pushes.machine.pause(process.pause, reboot=process.reboots)
        self.scripted_server.script = partial(_meet, iter(process.replies))
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
        return self._standing() is not None and self._found[2] == "finished"

    # The laws.

    def _find(self, ledger: sqlite3.Connection) -> Any:  # noqa: ANN401 - a row
        return ledger.execute(
            "SELECT run, name, status FROM run WHERE run > ?", (self._runs_before,)
        ).fetchone()

    def _standing(self) -> Standing | None:
        """Return where the uids stand, once that has been proven; None if nothing is known."""
        with reading(self.pushes.ledger) as ledger:
            found = self._found = self._find(ledger)
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
        seen = [request.at for request in self.scripted_server.arrived]
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
                assert self.scripted_server.taken.isdisjoint(uids), (
                    "pending is certainly not applied"
                )
        assert planned <= len(self._uids)
        assert self._accepted <= self.scripted_server.taken, "it claims what the API did not take"

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


def _meet(replies: Iterator[str], request: Request) -> Play:
    met = next(replies, "fine")
    # A single uid that is too large would be written off, and rightly.
    return ACCEPT if met == "413" and len(request.uids) == 1 else REPLIES[met]
