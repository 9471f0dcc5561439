"""Every fault, at the first, a middle and the last attempt and batch, and where it leads to."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from client_errors import CLIENT_ERRORS
from fault_table import (
    DONE,
    FAULTS,
    HOLDS,
    HOLDS_UNTIL,
    ONE_OF_EACH,
    PARTIAL,
    THROTTLED,
    THROTTLED_BEFORE_IT,
    answer,
)
from scripted_server import ACCEPT, ANSWER_SECONDS, Play, Request, ScriptedServer, Stage
from stage import numbered
from whole_push import Pushes

from engine.delivery.events import Answered, Divided, Event, Sent, Settled, Stopping
from engine.delivery.retry import RetrySettings
from engine.errors import ExitStatus
from engine.model.cohort import Action
from engine.report.accounts import Standing

BATCHES, UIDS_A_BATCH, ATTEMPTS = 5, 4, 3
EXPORT = numbered(BATCHES * UIDS_A_BATCH)
BYSTANDER = "somebody else"
EARLIER = answer(500)
"""What the attempts before the one in question meet."""


def scripted_server_before(action: Action) -> ScriptedServer:
    """Return a cohort that `action` has yet to change."""
    inside = EXPORT.uids if action is Action.REMOVE else []
    return ScriptedServer({BYSTANDER, *inside})


def is_delivered(scripted_server: ScriptedServer, action: Action) -> bool:
    """Say whether the cohort is what it should be, once late effects have set in."""
    scripted_server.catch_up()
    wanted = EXPORT.uids if action is Action.ADD else []
    return scripted_server.members == {BYSTANDER, *wanted}


def prepare(folder: Path, action: Action) -> Pushes:
    patience = RetrySettings(max_attempts=ATTEMPTS, give_up_after_seconds=3600)
    return Pushes(folder, scripted_server_before(action), UIDS_A_BATCH, retry=patience)


class Scene:
    """A push in which one attempt of one batch meets a fault, and what the ledger then holds."""

    def __init__(self, pushes: Pushes, play: Play, batch: int, attempt: int) -> None:
        self.pushes = pushes
        self.batch = batch
        self.attempt = attempt
        self.requests = Counter[tuple[str, ...]]()
        self.pinned: tuple[Any, ...] | None = None
        """State, whether it may have been applied, attempts, and the last one's outcome."""
        self.followed_by: list[Event] = []
        self._play = play
        self._tries = 0
        self._answers = 0
        first = (batch - 1) * UIDS_A_BATCH
        self._uids = tuple(EXPORT.uids[first : first + UIDS_A_BATCH])

    def script(self, request: Request) -> Play:
        self.requests[request.uids] += 1
        if request.uids != self._uids:
            return ACCEPT
        self._tries += 1
        if self._tries < self.attempt:
            return EARLIER
        return self._play if self._tries == self.attempt else ACCEPT

    def observe(self, event: Event) -> None:
        """Look into the ledger once the outcome is in it; then note what follows."""
        if self.pinned is not None:
            self.followed_by.append(event)
        elif isinstance(event, Answered) and event.batch == self.batch:
            self._answers += 1
            if self._answers == self.attempt:
                self.pinned = self._ask()

    def _ask(self) -> tuple[Any, ...]:
        with closing(sqlite3.connect(self.pushes.ledger)) as ledger:
            found = ledger.execute(
                "SELECT state, may_have_been_applied, max(attempt), outcome "
                "FROM batch LEFT JOIN attempt USING (run, batch) WHERE batch = ? GROUP BY batch",
                (self.batch,),
            ).fetchone()
        return found or ("open", 0, None, None)

    @property
    def decision(self) -> str:
        """Tell by the first event that follows what was decided."""
        for event in self.followed_by:
            match event:
                case Settled(batch=self.batch):
                    return "settled"
                case Divided(batch=self.batch):
                    return "split"
                case Stopping():
                    return "stopped"
                case Sent(batch=self.batch):
                    return "retried"
        return "forgotten"

    @property
    def sent_to_others(self) -> set[int]:
        """How often batches were tried that the fault did not concern."""
        mine = set(self._uids)
        return {count for uids, count in self.requests.items() if not mine.intersection(uids)}


def assert_range_outcome(
    folder: Path, fault: str, action: Action, batch: int, attempt: int
) -> None:
    play, range_outcome = FAULTS[fault]
    pushes = prepare(folder, action)
    scene = Scene(pushes, play, batch, attempt)
    pushes.scripted_server.script, pushes.observe = scene.script, scene.observe
    ended = pushes.push(EXPORT, action)
    is_last = attempt == ATTEMPTS
    # What the ledger holds, and what is decided.
    entered = attempt if range_outcome.outcome else attempt - 1
    state_before = attempt > 1 and range_outcome.outcome is None
    outcome = "unconfirmed" if state_before else range_outcome.outcome
    sticks = range_outcome.applied or attempt > 1
    assert scene.pinned == (range_outcome.state, sticks, entered or None, outcome)
    assert scene.decision == (range_outcome.at_last if is_last else range_outcome.decision)
    assert scene.sent_to_others <= {1}
    # How it ends, and how the next command goes on.
    assert ended.exit_status == (range_outcome.once_at_last if is_last else range_outcome.once)
    assert ended.result
    assert ended.result.accounts.imbalance is None
    if ended.exit_status is not DONE:
        assert ended.result.hint
        pushes.scripted_server.script = lambda _: ACCEPT
        ended = pushes.push(EXPORT, action)
        assert ended.exit_status is DONE
    assert ended.result
    assert ended.result.accounts.uids == Standing(len(EXPORT.uids), accepted=len(EXPORT.uids))
    assert is_delivered(pushes.scripted_server, action)


@pytest.mark.parametrize(
    ("action", "batch", "attempt"),
    [
        pytest.param(Action.ADD, 1, 1, id="first"),
        pytest.param(Action.REMOVE, 3, 2, id="middle", marks=pytest.mark.slow),
        pytest.param(Action.REMOVE, BATCHES, ATTEMPTS, id="last"),
    ],
)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_meets_its_range_outcome(
    tmp_path: Path, fault: str, action: Action, batch: int, attempt: int
) -> None:
    assert_range_outcome(tmp_path, fault, action, batch, attempt)


@pytest.mark.parametrize("batch", [1, 3, BATCHES])
@pytest.mark.parametrize("fault", ONE_OF_EACH)
def test_whichever_attempt_of_whichever_batch(tmp_path: Path, fault: str, batch: int) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        assert_range_outcome(tmp_path / str(attempt), fault, Action.ADD, batch, attempt)


@pytest.mark.parametrize(
    "fault",
    [
        *ONE_OF_EACH,
        *(
            pytest.param(fault, marks=pytest.mark.slow)
            for fault in FAULTS
            if fault[0].isdigit() and fault not in ONE_OF_EACH
        ),
    ],
)
def test_a_fault_that_never_ends(tmp_path: Path, fault: str) -> None:
    play, range_outcome = FAULTS[fault]
    for action in Action:
        pushes = prepare(tmp_path / action, action)
        pushes.scripted_server.script = lambda _: play
        # An hour of it is given up; what is waited out without end is ended by a signal.
        ended = pushes.push(EXPORT, action, stops_at=(4 * 3600,))
        assert ended.exit_status is range_outcome.always
        assert ended.result
        assert ended.result.accounts.imbalance is None
        planned = ended.result.accounts.uids.planned
        uids = ended.result.accounts.uids
        if range_outcome.standing is None:
            assert uids.unconfirmed
            assert uids == Standing(planned, unconfirmed=uids.unconfirmed, pending=uids.pending)
        else:
            assert uids == Standing(planned, **{range_outcome.standing: planned})
        if range_outcome.always in {DONE, PARTIAL}:
            assert planned == len(EXPORT.uids)
            continue
        assert ended.result.hint
        pushes.scripted_server.script = lambda _: ACCEPT
        assert pushes.push(EXPORT, action).exit_status is DONE
        assert is_delivered(pushes.scripted_server, action)


@pytest.mark.parametrize("fault", HOLDS | HOLDS_UNTIL)
def test_how_long_a_429_closes_the_gate(tmp_path: Path, fault: str) -> None:
    play, _ = FAULTS[fault]
    pushes = prepare(tmp_path, Action.ADD)
    pushes.scripted_server.script = lambda request: play if request.number == 3 else ACCEPT
    assert pushes.push(EXPORT).exit_status is DONE
    sent = [request.at for request in pushes.scripted_server.arrived]
    answered_at = sent[2] + ANSWER_SECONDS
    opens = HOLDS_UNTIL.get(fault) or answered_at + HOLDS[fault]
    after = min(at for at in sent if at > answered_at)
    # A slot of the pace, a connection and a commit come on top.
    assert opens - 0.001 <= after <= opens + 0.5


def test_every_429_of_the_matrix_is_timed() -> None:
    assert {*HOLDS, *HOLDS_UNTIL} == {
        fault
        for fault, (_, range_outcome) in FAULTS.items()
        if range_outcome in {THROTTLED, THROTTLED_BEFORE_IT}
    }


def test_a_hold_outlives_the_process_that_received_it(tmp_path: Path) -> None:
    pushes = prepare(tmp_path, Action.ADD)
    hold = Play(429, headers={"Retry-After": "20"}, applied_after=None)
    pushes.scripted_server.script = lambda request: hold if request.number == 1 else ACCEPT
    assert pushes.push(EXPORT, stops_at=(1.0,)).exit_status is ExitStatus.INCOMPLETE
    pushes.push(EXPORT)
    throttled, *others = [request.at for request in pushes.scripted_server.arrived]
    assert min(others) >= throttled + 20
    assert min(others) <= throttled + 21


def test_the_matrix_knows_every_documented_status_and_every_error() -> None:
    documented = {"200", "400", "401", "403", "413", "415", "429", "500", "502", "503", "504"}
    assert documented <= {fault.split()[0] for fault in FAULTS}
    assert len(CLIENT_ERRORS) > 25
    assert {play.stage for play, _ in FAULTS.values()} == {None, *Stage}


@pytest.mark.parametrize(("refusals", "rejected"), [(1, 1), (ATTEMPTS - 1, 1), (ATTEMPTS, 2)])
def test_a_413_that_cannot_be_about_the_size_writes_no_uid_off_at_once(
    tmp_path: Path, refusals: int, rejected: int
) -> None:
    pushes = prepare(tmp_path, Action.ADD)
    # The search for one uid takes its neighbour apart from the others.
    pushes.scripted_server.poison = frozenset({"u0009"})
    alone = Counter[str]()

    def script(request: Request) -> Play:
        alone.update(request.uids[:1] if len(request.uids) == 1 else ())
        return (
            FAULTS["413"][0]
            if request.uids == ("u0008",) and alone["u0008"] <= refusals
            else ACCEPT
        )

    pushes.scripted_server.script = script
    ended = pushes.push(EXPORT)
    assert ended.exit_status is PARTIAL
    assert ended.result
    planned = len(EXPORT.uids)
    assert ended.result.accounts.uids == Standing(planned, planned - rejected, rejected)
