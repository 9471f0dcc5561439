"""Ledgers that a disk or another version has harmed: exact recovery or a loud refusal."""

import random
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from crashed_state import (
    POISON,
    WAL_NAME,
    WANTED,
    CrashedState,
    make_crashed_state,
    range_outcome_of,
)
from ledger_entries import rows, tampering
from scripted_server import ScriptedServer
from stage import numbered
from whole_push import Pushes

from engine.errors import LedgerError
from engine.ledger.sqlite.migrations import MIGRATIONS
from engine.ledger.sqlite.schema import DAMAGE_SYMPTOMS, open_ledger
from engine.storage.paths import LEDGER_NAME

SHM_NAME = f"{LEDGER_NAME}-shm"
NO_WRONG_ANSWER = {
    *("exact", "LedgerError", "USAGE", "INCOMPLETE", "UNBALANCED", "GuardError"),
    "ExportChangedError",
}
"""Where SQLite can't tell, the digests of the uids do (`USAGE`), or the balance of the accounts. A
digest of the export that was damaged is that of another export.

A cohort's name that was damaged is another name, which the guard `name` asks about."""
OUT_OF_ROOM = {"StateFullError", "INCOMPLETE"}
FAR, NEAR = 4_093, pytest.param(1_777, marks=pytest.mark.slow)
"""Steps in bytes that meet headers, pages and what is between them."""
NEXT = "ALTER TABLE run ADD COLUMN note TEXT; UPDATE run SET note = 'migrated';"


@pytest.fixture(scope="module")
def crashed_state() -> CrashedState:
    return make_crashed_state()


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


def test_a_crashed_state_is_recovered_as_it_is(crashed_state: CrashedState, tmp_path: Path) -> None:
    assert range_outcome_of(crashed_state.laid_out(tmp_path)) == "exact"


# The log beside the file: what is torn off is as if it had never been.


@pytest.mark.parametrize("step", [FAR, NEAR])
def test_a_log_torn_at_every_so_many_bytes_is_recovered(
    crashed_state: CrashedState, tmp_path: Path, step: int
) -> None:
    log = crashed_state.files[WAL_NAME]
    for size in range(0, len(log), step):
        torn = crashed_state.with_file(WAL_NAME, log[:size])
        assert range_outcome_of(crashed_state.laid_out(tmp_path / str(size), torn)) == "exact"


@pytest.mark.parametrize("step", [FAR, NEAR])
def test_a_bit_flipped_anywhere_in_the_log_ends_it_there(
    crashed_state: CrashedState, tmp_path: Path, step: int
) -> None:
    log = crashed_state.files[WAL_NAME]
    for at in range(0, len(log), step):
        harmed = crashed_state.with_file(WAL_NAME, flipped(log, at, at % 8))
        assert range_outcome_of(crashed_state.laid_out(tmp_path / str(at), harmed)) == "exact"


@pytest.mark.parametrize(
    "content", [b"", b"\xa5" * 32768, b"\xff" * 100], ids=["empty", "garbage", "short"]
)
def test_the_index_of_the_log_is_made_anew(
    crashed_state: CrashedState, tmp_path: Path, content: bytes
) -> None:
    assert (
        range_outcome_of(
            crashed_state.laid_out(tmp_path, crashed_state.with_file(SHM_NAME, content))
        )
        == "exact"
    )


@pytest.mark.parametrize("gone", [WAL_NAME, SHM_NAME, LEDGER_NAME])
def test_a_file_that_is_gone(crashed_state: CrashedState, tmp_path: Path, gone: str) -> None:
    pushes = crashed_state.laid_out(tmp_path)
    pushes.ledger.with_name(gone).unlink()
    assert range_outcome_of(pushes) == "exact"


# The file itself.


@pytest.mark.parametrize("step", [FAR, NEAR])
@pytest.mark.parametrize("with_log", [True, False])
def test_a_file_truncated_anywhere_is_recovered_or_refused(
    crashed_state: CrashedState, tmp_path: Path, step: int, *, with_log: bool
) -> None:
    content = crashed_state.files[LEDGER_NAME]
    others = crashed_state.files if with_log else {}
    for size in range(0, len(content), step):
        pushes = crashed_state.laid_out(
            tmp_path / str(size), {**others, LEDGER_NAME: content[:size]}
        )
        range_outcome = range_outcome_of(pushes)
        # A file of no length is a ledger that was never begun; nothing else may pass for that.
        assert range_outcome in {"LedgerError", "exact"}
        if range_outcome == "LedgerError":
            # To close it is to put into the file what the log holds.
            assert with_log or pushes.ledger.read_bytes() == content[:size]
            assert not pushes.scripted_server.arrived
        elif 0 < size < len(content) - 2 * 4096:  # The log may hold the last pages whole.
            pytest.fail(f"{size} of {len(content)} bytes pass for a ledger")


def range_outcomes_of_flips(
    crashed_state: CrashedState, folder: Path, places: list[int], chance: random.Random
) -> Counter[str]:
    """Flip one bit at each of these places, without a log to cover it up."""
    content = crashed_state.files[LEDGER_NAME]
    range_outcomes = Counter[str]()
    for at in places:
        harmed = {LEDGER_NAME: flipped(content, at, chance.randrange(8))}
        pushes = crashed_state.laid_out(folder / str(at), harmed)
        try:
            range_outcomes[range_outcome_of(pushes)] += 1
        except DAMAGE_SYMPTOMS:  # As `sole_ledger` does, which the harness has no use for.
            with pytest.raises(LedgerError):
                open_ledger(pushes.ledger)
            range_outcomes["LedgerError"] += 1
    return range_outcomes


def live_bytes(content: bytes) -> list[int]:
    """Return where a file holds anything; the rest is room."""
    return [at for at, byte in enumerate(content) if byte]


def test_a_bit_flipped_in_the_file_gives_no_wrong_answer(
    crashed_state: CrashedState, tmp_path: Path
) -> None:
    chance = random.Random(4)
    places = chance.sample(live_bytes(crashed_state.files[LEDGER_NAME]), 150)
    range_outcomes = range_outcomes_of_flips(crashed_state, tmp_path, places, chance)
    assert set(range_outcomes) <= NO_WRONG_ANSWER
    assert range_outcomes["LedgerError"] > range_outcomes["exact"]


@pytest.mark.slow
def test_each_bit_of_the_file_flipped_gives_no_wrong_answer(
    crashed_state: CrashedState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = live_bytes(crashed_state.files[LEDGER_NAME])
    range_outcomes = range_outcomes_of_flips(crashed_state, tmp_path, places, random.Random(5))
    with capsys.disabled():
        print(f"\n{len(places)} bytes flipped: {dict(range_outcomes)}")  # noqa: T201 - the test's figures
    assert set(range_outcomes) <= NO_WRONG_ANSWER


def without_log(crashed_state: CrashedState, folder: Path) -> CrashedState:
    """Return a crashed state without a log, whose file counts as just checked."""
    path = crashed_state.laid_out(folder).ledger
    with tampering(path) as ledger:
        ledger.execute("INSERT INTO integrity_check VALUES (1, 1)")
    return replace(crashed_state, files={LEDGER_NAME: path.read_bytes()})


@pytest.mark.parametrize("sample", [40, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_bit_flipped_in_a_large_file_gives_no_wrong_answer_before_it_is_checked_again(
    crashed_state: CrashedState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    crashed_state = without_log(crashed_state, tmp_path / "it")
    monkeypatch.setattr("engine.ledger.sqlite.schema._CHECKED_AT_ONCE_BYTES", 0)
    monkeypatch.setattr("engine.ledger.sqlite.schema._CHECK_INTERVAL_NS", 1 << 63)
    chance = random.Random(6)
    places = chance.sample(live_bytes(crashed_state.files[LEDGER_NAME]), sample)
    assert set(range_outcomes_of_flips(crashed_state, tmp_path, places, chance)) <= NO_WRONG_ANSWER


# Other versions.


@contextmanager
def program_of_version(migrations: tuple[str, ...]) -> Iterator[None]:
    with (
        patch(
            "engine.ledger.sqlite.ledger.open_ledger", partial(open_ledger, migrations=migrations)
        ),
        patch("engine.ledger.sqlite.schema.MIGRATIONS", migrations),
    ):
        yield


def test_a_run_that_an_older_program_began_goes_on(
    crashed_state: CrashedState, tmp_path: Path
) -> None:
    pushes = crashed_state.laid_out(tmp_path)
    with program_of_version((*MIGRATIONS, NEXT)):
        assert range_outcome_of(pushes) == "exact"
    assert rows(pushes.ledger, "SELECT note FROM run") == [("migrated",)]
    backup = pushes.ledger.with_name(f"ledger.sqlite.v{len(MIGRATIONS)}.bak")
    # The run as it was, with all that the log held.
    [(status, accepted)] = rows(
        backup,
        "SELECT status, sum(uid_count) FROM run JOIN batch USING (run) WHERE state = 'accepted'",
    )
    assert (status, 0 < accepted < len(WANTED)) == ("running", True)


def test_a_run_that_a_newer_program_began_is_left_to_it(
    crashed_state: CrashedState, tmp_path: Path
) -> None:
    newer = crashed_state.laid_out(tmp_path)
    with tampering(newer.ledger) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        connection.executescript(NEXT)
    before = newer.ledger.read_bytes()
    assert range_outcome_of(newer) == "LedgerError"
    assert newer.ledger.read_bytes() == before
    assert not newer.scripted_server.arrived
    with program_of_version((*MIGRATIONS, NEXT)):
        assert range_outcome_of(newer) == "exact"


# Room that runs out.


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN  # Python's own doing.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("step", [2 * 4096, pytest.param(4096, marks=pytest.mark.slow)])
def test_a_disk_that_is_full_at_any_byte_loses_nothing(tmp_path: Path, step: int) -> None:
    range_outcomes = Counter[str]()
    for size in range(0, 1 << 20, step):
        pushes = Pushes(tmp_path / str(size), ScriptedServer(poison=POISON))
        with largest_file(size):
            range_outcome = range_outcome_of(pushes)
        if range_outcome == "exact":
            break
        range_outcomes[range_outcome] += 1
        assert range_outcome in {"LedgerError", *OUT_OF_ROOM}
        assert range_outcome_of(pushes) == "exact"
    assert range_outcome == "exact"
    assert range_outcomes["INCOMPLETE"] > 5, "it was hardly ever full amid a run"


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_ledger_that_may_not_grow_at_any_page_loses_nothing(tmp_path: Path, step: int) -> None:
    export = numbered(150)
    range_outcomes = Counter[str]()
    for pages in range(13, 1000, step):  # An empty one has as many.
        pushes = Pushes(tmp_path / str(pages), ScriptedServer(poison=POISON), uids_per_payload=1)
        pushes.pragmas = (f"max_page_count = {pages}",)
        range_outcome = range_outcome_of(pushes, export)
        if range_outcome == "exact":
            break
        range_outcomes[range_outcome] += 1
        pushes.pragmas = ()
        assert range_outcome_of(pushes, export) == "exact"
    assert set(range_outcomes) == {"INCOMPLETE"}
