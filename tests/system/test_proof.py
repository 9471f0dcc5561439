"""The proof: two million uids, every nasty kind of row, faults and kills, compared uid by uid."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clean_room import until
from emulated_api import Emulator, emulator
from nasty_export import Expected, write_nasty_export
from nightly import Ended, Night, assert_balanced

UIDS = 2_000_000
PAYLOAD_BYTES = 128_000
LIMITS = ("--requests", "300", "--per-seconds", "6", "--limiter", "sliding")
POISON = ("poison-a3f", "poison-9c1")
FAULTS = (
    *("--fault", "500=0.03:0.5", "--fault", "reset=0.01:1", "--fault", "hang=0.01:0.5"),
    *("--fault-at", "413=70", "--poison", POISON[0], "--poison", POISON[1]),
)
KILLS = 20
DIED = "the process died before it knew the outcome"

pytestmark = pytest.mark.slow


def prepare(folder: Path, api: Emulator) -> Night:
    night = Night(folder, api.url)
    night.configure(
        limits={"per_seconds": 6.0, "payload_bytes": PAYLOAD_BYTES},
        delivery={"timeout_seconds": 2.0},
    )
    return night


def push(night: Night) -> Ended:
    return night.spawn_push("export.csv.gz", "--column", "uid")


def prove(night: Night, api: Emulator, expected: Expected, last: Ended) -> dict[str, Any]:
    """Compare what the emulator, the books and the generator say; return the emulator's report."""
    books, report = last.document, api.report()
    assert last.status == 1, last.stderr
    assert (books["status"], books["source_complete"]) == ("finished", True)
    assert_balanced(books)
    assert books["rows"] == {
        "read": expected.rows,
        "blank": len(expected.blank),
        "invalid": len(expected.invalid),
    }
    assert books["uids"] == {
        "planned": expected.planned,
        "accepted": expected.planned - len(expected.rejected),
        "rejected": len(expected.rejected),
        "unconfirmed": 0,
        "pending": 0,
    }
    members = api.members()
    assert not members - expected.members, "the cohort has members that it should not"
    assert not expected.members - members, "the cohort lacks members"
    rejects = night.rejects(books["run"])
    assert [(reject["kind"], reject["record"]) for reject in rejects] == expected.rejects
    refused = [reject for reject in rejects if reject["uid"] in POISON]
    assert all(reject["request_id"] for reject in refused)
    assert_ceiling_kept(night, report)
    return report


def assert_ceiling_kept(night: Night, report: dict[str, Any]) -> None:
    """Never over it by our own log; as the emulator counts, while jitter stays within the margin.

    This window is a tenth of the API's, and so is the margin: 60 ms, for which a busy machine may
    well stall. Only then may the emulator have seen too many.
    """
    sent = [
        boot_ns / 1e9
        for (boot_ns,) in night.query(
            "SELECT sent_boot_ns FROM attempt WHERE sent_boot_ns IS NOT NULL AND "
            "reason IS NOT ? ORDER BY 1",
            DIED,
        )
    ]
    assert all(later - sooner >= 6.0 for sooner, later in zip(sent, sent[300:], strict=False))
    [(jitter_ns,)] = night.query(
        "SELECT max(ended_utc_ns - sent_utc_ns) - min(ended_utc_ns - sent_utc_ns) "
        "FROM attempt WHERE http_status IS NOT NULL"
    )
    is_quiet = jitter_ns / 1e9 <= 0.06
    assert set(report["breaches"]) <= (set() if is_quiet else {"over_ceiling"})
    assert report["requests"]["by_status"].get("429", 0) <= (0 if is_quiet else 5)


def tell(
    capsys: pytest.CaptureFixture[str], title: str, last: Ended, report: dict[str, Any]
) -> None:
    """Print the figures, captured or not."""
    books = last.document
    with capsys.disabled():
        print(  # noqa: T201 - the proof's figures
            f"\n{title}: {books['rows']} {books['uids']} {books['requests']}\n"
            f"  fill {books['payload_fill']}, ceiling use {books['ceiling_use']}, "
            f"{books['elapsed_seconds']} s; emulator: {report['requests']}, "
            f"faults {report['faults']}, breaches {report['breaches'] or 'none'}, "
            f"most in a window {report['workspaces']['NIGHTLY']['most_in_window']}"
        )


@pytest.fixture
def faultless(tmp_path: Path) -> Iterator[Emulator]:
    with emulator(tmp_path, *LIMITS) as api:
        yield api


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Emulator]:
    with emulator(tmp_path, *LIMITS, *FAULTS) as api:
        yield api


def test_every_nasty_row_ends_where_it_should(
    tmp_path: Path, faultless: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    night = prepare(tmp_path, faultless)
    expected = write_nasty_export(tmp_path / "export.csv.gz", UIDS, payload_bytes=PAYLOAD_BYTES)
    last = push(night)
    report = prove(night, faultless, expected, last)
    assert last.document["payload_fill"] > 0.99
    tell(capsys, "nasty rows", last, report)


def test_faults_lose_nothing(
    tmp_path: Path, faulty: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    night = prepare(tmp_path, faulty)
    expected = write_nasty_export(
        tmp_path / "export.csv.gz", UIDS, payload_bytes=PAYLOAD_BYTES, poison=POISON
    )
    last = push(night)
    report = prove(night, faulty, expected, last)
    assert {"500", "reset", "hang", "413"} <= set(report["faults"])
    assert last.document["requests"]["split"] > 0
    tell(capsys, "faults", last, report)


def test_kills_lose_nothing(
    tmp_path: Path, faulty: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("COHORTSYNC_TEST_SEED", "20"))
    chance = random.Random(seed)
    night = prepare(tmp_path, faulty)
    expected = write_nasty_export(
        tmp_path / "export.csv.gz", UIDS, payload_bytes=PAYLOAD_BYTES, poison=POISON
    )
    unknown: set[tuple[int, int]] = set()
    kills = 0
    # A kill that hits nothing under way proves little: a few more, until one has.
    while kills < KILLS or (not unknown and kills < 2 * KILLS):
        kill_at_some_moment(night, faulty, chance)
        kills += 1
        if night.ledger_files():
            unknown |= set(night.query("SELECT batch, attempt FROM attempt WHERE outcome IS NULL"))
    last = push(night)
    report = prove(night, faulty, expected, last)
    assert unknown, "no kill hit a request under way"
    died = set(night.query("SELECT batch, attempt FROM attempt WHERE reason = ?", DIED))
    assert died == unknown
    # What was accepted was never sent again, and every send is one that the ledger knows.
    assert not night.query(
        "SELECT 1 FROM attempt AS first JOIN attempt AS next USING (run, batch) "
        "WHERE first.outcome = 'accepted' AND next.attempt > first.attempt"
    )
    sent = last.document["requests"]["sent"]
    assert sent - len(died) <= report["requests"]["received"] <= sent
    assert night.query("SELECT count(*) FROM run") == [(1,)]
    title = f"{kills} kills (seed {seed}), {len(died)} requests under way"
    tell(capsys, title, last, report)


def kill_at_some_moment(night: Night, api: Emulator, chance: random.Random) -> None:
    """Begin the push, let it send up to 24 requests more, and kill it."""
    before, more = api.received(), chance.randrange(25)
    running = night.start_push("export.csv.gz", "--column", "uid")
    until(
        lambda: api.received() >= before + more or running.process.poll() is not None,
        f"{more} requests were sent",
    )
    time.sleep(chance.uniform(0.0, 0.5 if more == 0 else 0.05))
    ended = running.kill()
    assert ended.status == -signal.SIGKILL, f"it was to be killed, but ended: {ended.stderr}"
