"""A real process killed with -9 at random moments, again and again: nothing is lost."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_room import until
from emulated_api import Emulator, emulator
from nasty_export import write_nasty_export
from nightly import CommandLine
from proof import DIED, FAULTS, LIMITS, PAYLOAD_BYTES, POISON, UIDS, prepare, prove, push, tell

REQUESTS = 480
"""How many of the 560 or so that it takes are sent before the last kill, on average half of it."""
HELD_BACK = ("--latency-ms", "30")
"""An answer is due that much after the work is done, so that kills hit requests in between."""

pytestmark = pytest.mark.slow


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Emulator]:
    with emulator(tmp_path, *LIMITS, *FAULTS, *HELD_BACK) as api:
        yield api


@pytest.mark.parametrize("kills", [20, 50])
def test_kills_lose_nothing(
    tmp_path: Path, api: Emulator, capsys: pytest.CaptureFixture[str], kills: int
) -> None:
    seed = int(os.environ.get("COHORTSYNC_TEST_SEED", "20"))
    chance = random.Random(seed)
    cli = prepare(tmp_path, api)
    expected = write_nasty_export(
        tmp_path / "export.csv.gz", UIDS, payload_bytes=PAYLOAD_BYTES, poison=POISON
    )
    under_way: dict[int, set[int]] = {}
    """By the execution that was killed: the batches that had no outcome then."""
    for _ in range(kills):
        kill_at_some_moment(cli, api, chance, REQUESTS // kills)
        if cli.ledger_files():
            for execution, batch in cli.query(
                "SELECT sitting, batch FROM attempt WHERE outcome IS NULL"
            ):
                under_way.setdefault(execution, set()).add(batch)
    last = push(cli)
    report = prove(cli, api, expected, last)
    assert cli.query("SELECT count(*) FROM run") == [(1,)]
    assert_sent_again_only_what_was_under_way(cli, under_way)
    # Every send is one that the ledger knows, and some of their answers died with a process.
    died = sum(map(len, under_way.values()))
    answered = last.document["requests"]["sent"] - died
    lost = report["requests"]["received"] - answered
    assert 0 < lost <= died
    title = f"{kills} kills (seed {seed}), {died} requests under way, {lost} answers lost"
    tell(capsys, title, last, report)


def kill_at_some_moment(cli: CommandLine, api: Emulator, chance: random.Random, most: int) -> None:
    """Begin the push, let it send up to `most` requests more, and kill it."""
    before, more = api.received(), chance.randrange(most + 1)
    running = cli.start_push("export.csv.gz", "--column", "uid")
    until(
        lambda: api.received() >= before + more or running.process.poll() is not None,
        f"{more} requests were sent",
    )
    time.sleep(chance.uniform(0.0, 0.5 if more == 0 else 0.05))
    ended = running.kill()
    assert ended.status == -signal.SIGKILL, f"it was to be killed, but ended: {ended.stderr}"


def assert_sent_again_only_what_was_under_way(
    cli: CommandLine, under_way: dict[int, set[int]]
) -> None:
    """Look at every attempt that follows another: nothing but a failure or a kill calls for it."""
    again = cli.query(
        "SELECT before.sitting, before.batch, before.outcome, before.reason = ? "
        "FROM attempt AS again JOIN attempt AS before "
        "ON (before.run, before.batch, before.attempt) "
        "= (again.run, again.batch, again.attempt - 1)",
        DIED,
    )
    assert {outcome for _, _, outcome, _ in again} <= {"unconfirmed", "throttled", "not_sent"}
    for killed, batches in under_way.items():
        resent = [batch for execution, batch, _, died in again if died and execution == killed]
        assert len(resent) <= len(batches)
        assert set(resent) <= batches
    found = cli.query("SELECT DISTINCT sitting, batch FROM attempt WHERE reason = ?", DIED)
    assert set(found) == {
        (execution, batch) for execution, all_ in under_way.items() for batch in all_
    }
