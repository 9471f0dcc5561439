"""Whatever fails: the accounts balance, and the same command delivers the rest once."""

import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_entries import rows
from stage import (
    NAMED,
    OK,
    RESET,
    SERVER_ERROR,
    THROTTLED,
    TOO_LARGE,
    UNAUTHORIZED,
    UNREACHABLE,
    Answer,
    Api,
    Execution,
    Killed,
    Request,
    Stage,
    accept,
    numbered,
)

from engine.delivery.outcome import Accepted, Exchange, Unconfirmed
from engine.delivery.retry import RetrySettings
from engine.errors import StateFullError
from engine.pacing.settings import PacingSettings
from engine.report.accounts import Standing

TIMED_OUT = Exchange(Unconfirmed("timed out"))
KINDS = {
    "500": Answer(SERVER_ERROR),
    "500 after applying": Answer(SERVER_ERROR, applies=True),
    "reset": Answer(RESET),
    "reset after applying": Answer(RESET, applies=True),
    "hang": Answer(TIMED_OUT, seconds=60),
    "hang after applying": Answer(TIMED_OUT, applies=True, seconds=60),
    "unreachable": Answer(UNREACHABLE),
    "429": Answer(THROTTLED),
    "413": Answer(TOO_LARGE),
    "401": Answer(UNAUTHORIZED),
    "slow": Answer(OK, applies=True, seconds=30),
}
BATCHES = 6


def stage_in(folder: Path, api: Api) -> Stage:
    """Return six batches of ten."""
    return Stage(folder, numbered(10 * BATCHES), api)


def finish(stage: Stage, executions: int = 3) -> Execution:
    """Run the same command until it is finished."""
    for _ in range(executions):
        execution = stage.run()
        if execution.is_finished:
            return execution
    pytest.fail("it is never finished")


def sends_of_each_uid(stage: Stage) -> Counter[str]:
    return Counter(uid for request in stage.api.requests for uid in request.uids)


@pytest.mark.parametrize("at", range(1, BATCHES + 3))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("patience", [1, 10])
def test_a_failure_of_any_kind_at_any_request(
    tmp_path: Path, kind: str, at: int, patience: int
) -> None:
    failed: list[Request] = []

    def script(request: Request) -> Answer:
        if request.number != at:
            return accept(request)
        failed.append(request)
        return KINDS[kind]

    stage = stage_in(tmp_path, Api(script))
    stage.retry = RetrySettings(max_attempts=patience)
    assert finish(stage).accounts.uids == Standing(60, accepted=60)
    assert stage.api.members == set(stage.export.uids)
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)
    # Only what failed was sent twice.
    allowed = set(failed[-1].uids) if failed else set()
    sends = sends_of_each_uid(stage)
    assert all(sends[uid] == 1 for uid in set(stage.export.uids) - allowed)
    assert all(sends[uid] <= 2 for uid in allowed)


@pytest.mark.parametrize("error", [Killed(), StateFullError("full")], ids=["killed", "full disk"])
@pytest.mark.parametrize("write", range(1, 2 * BATCHES + 1))
def test_a_ledger_that_fails_at_any_write(tmp_path: Path, write: int, error: BaseException) -> None:
    stage = stage_in(tmp_path, Api())
    execution = stage.run(fails_at=write, error=error)
    under_way = len(stage.api.requests) * 10 - execution.accounts.uids.accepted
    accounts = finish(stage).accounts
    assert accounts.uids == Standing(60, accepted=60)
    assert stage.api.members == set(stage.export.uids)
    # What was sent again is what may have been under way.
    again = sum(count - 1 for count in sends_of_each_uid(stage).values())
    assert again <= under_way


@pytest.mark.parametrize("write", range(1, 12))
def test_a_process_killed_again_and_again(tmp_path: Path, write: int) -> None:
    stage = stage_in(tmp_path, Api())
    for _ in range(30):
        if not stage.run(fails_at=write, error=Killed()).killed:
            break
    assert finish(stage).accounts.uids == Standing(60, accepted=60)
    assert stage.api.members == set(stage.export.uids)


class Storm:
    """An API, a ledger and a user that fail at random; the same seed is the same storm."""

    def __init__(self, folder: Path, seed: int, *, poisoned: bool) -> None:
        self.dice = dice = random.Random(seed)
        self.poison = {f"u{dice.randrange(20, 80):04}" for _ in range(3)} if poisoned else set()
        kinds = [kind for kind in KINDS if kind != "401"]
        self.replies = {n: KINDS[dice.choice(kinds)] for n in range(200) if dice.random() < 0.35}
        self.stage = Stage(folder, numbered(80), Api(self.script), pacing=PacingSettings(20, 10))
        self.stage.retry = RetrySettings(max_attempts=dice.choice([2, 10]))

    def script(self, request: Request) -> Answer:
        slow = Answer(OK, applies=True, seconds=self.dice.uniform(0.05, 9))
        answer = self.replies.get(request.number, slow)
        if answer.exchange is TOO_LARGE and len(request.uids) == 1:
            answer = slow  # It would be rejected, and rightly.
        would_pass = answer.applies or isinstance(answer.exchange.outcome, Accepted)
        return Answer(NAMED) if would_pass and self.poison & set(request.uids) else answer

    def run(self) -> Execution:
        dice = self.dice
        return self.stage.run(
            stops_at=sorted(dice.uniform(0, 40) for _ in range(dice.choice([0, 0, 1, 2, 3]))),
            fails_at=dice.randrange(1, 40),
            error=dice.choice([Killed(), Killed(), StateFullError("full")]),
            payload_bytes=self.stage.payload_bytes + dice.choice([-60, 0, 100]),
        )


@given(st.integers(0), st.integers(1, 6), st.booleans())
def test_many_kinds_of_faults(seed: int, executions: int, poisoned: bool) -> None:  # noqa: FBT001 - hypothesis passes by position
    with TemporaryDirectory() as folder:
        storm = Storm(Path(folder), seed, poisoned=poisoned)
        stage, poison = storm.stage, storm.poison
        for _ in range(executions):
            execution = storm.run()
            if execution.is_finished:
                break
        else:
            storm.replies = {}
            execution = finish(stage)
        uids = execution.accounts.uids
        assert uids == Standing(80, accepted=80 - len(poison), rejected=len(poison))
        assert {uid for (uid,) in rows(stage.path, "SELECT uid FROM rejected")} == poison
        assert stage.api.members == set(stage.export.uids) - poison
        assert all(stage.api.acknowledged[uid] >= 1 for uid in stage.api.members)
