"""A month of mirrors: faults, kills, drains, a bad export, and the cohort right every morning."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated_api import Emulator, emulator
from nightly import TARGET, CommandLine, Ended

UIDS, NIGHTS, CHURN = 200_000, 30, 0.02
POISON = "poison-7"
FAULTS = (
    *("--fault", "500=0.10:0.5", "--fault", "reset=0.05:1", "--fault", "hang=0.03:0.5"),
    *("--poison", POISON),
)
KILLED, DRAINED, TRUNCATED = {4, 11, 19, 26}, {7, 15, 23}, {9, 21}
"""The nights with a kill -9, a SIGTERM, and an export that was cut off."""

pytestmark = pytest.mark.slow


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Emulator]:
    limits = ("--requests", "300", "--per-seconds", "6", "--limiter", "sliding")
    with emulator(tmp_path, *limits, *FAULTS, "--latency-ms", "20") as api:
        yield api


def export_of(cli: CommandLine, members: set[str], chance: random.Random) -> None:
    uids = [*members, POISON, "", *chance.sample(sorted(members), 50)]
    chance.shuffle(uids)
    (cli.folder / "export.txt").write_text("".join(f"{uid}\n" for uid in uids))


def mirror(cli: CommandLine) -> Ended:
    return cli.spawn("mirror", "export.txt", *TARGET, "--json")


def test_the_cohort_is_right_every_morning(
    tmp_path: Path, api: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(30)
    cli = CommandLine(tmp_path, api.url)
    cli.configure(
        limits={"per_seconds": 6.0, "payload_bytes": 32_000},
        delivery={"timeout_seconds": 0.5},
        mirror={"settle_seconds": 0.2, "keep_generations": 5},
    )
    fresh = (f"{number:024x}" for number in iter(lambda: chance.getrandbits(96), None))
    members = {next(fresh) for _ in range(UIDS)}
    starts = sent = 0
    for number in range(1, NIGHTS + 1):
        if number > 1:
            gone = chance.sample(sorted(members), round(CHURN * UIDS))
            members = (members - set(gone)) | {next(fresh) for _ in gone}
        if number in TRUNCATED:
            assert_a_cut_off_export_is_stopped(cli, api, members, chance)
        export_of(cli, members, chance)
        if number in KILLED | DRAINED:
            running = cli.start("mirror", "export.txt", *TARGET, "--json")
            before = api.received()
            deadline = time.monotonic() + 20
            while api.received() == before and time.monotonic() < deadline:
                time.sleep(0.005)
            running.process.send_signal(signal.SIGKILL if number in KILLED else signal.SIGTERM)
            running.process.wait(30)
            starts += 1
        for _ in range(5):
            ended = mirror(cli)
            starts += 1
            assert ended.status in {0, 1, 75}, ended.stderr
            assert_balanced(ended)
            if ended.status != 75:
                break
        # The one uid that the API rejects is news on the first night only.
        assert ended.status == (1 if number == 1 else 0), ended.stderr
        assert ended.document["known_rejects"] == (number > 1)
        assert api.members() == members, f"night {number}"
        sent = cli.query("SELECT count(*) FROM attempt WHERE sent_utc_ns IS NOT NULL")[0][0]
    report = api.report()
    assert set(report["breaches"]) <= {"over_ceiling"}
    assert_ceiling_kept_by_our_log(cli)
    with capsys.disabled():
        print(  # noqa: T201 - the proof's figures
            f"\n{NIGHTS} nights of {UIDS:,} uids, {CHURN:.0%} churn: {starts} starts, {sent} "
            f"requests, faults {report['faults']}, by status {report['requests']['by_status']}, "
            f"breaches {report['breaches'] or 'none'}"
        )


def assert_a_cut_off_export_is_stopped(
    cli: CommandLine, api: Emulator, members: set[str], chance: random.Random
) -> None:
    export_of(cli, set(sorted(members)[: UIDS // 2]), chance)
    before = api.received()
    blocked = mirror(cli)
    assert blocked.status == 4, blocked.stderr
    assert "removals" in blocked.document["reason"]
    assert api.received() == before


def assert_balanced(ended: Ended) -> None:
    document = ended.document
    rows, add = document["rows"], document["add"]
    parts = ("blank", "invalid", "duplicate", "unchanged")
    assert rows["read"] == sum(rows[part] for part in parts) + add["planned"]
    for operation in (add, document["remove"]):
        parts = ("accepted", "rejected", "unconfirmed", "pending")
        assert operation["planned"] == sum(operation[part] for part in parts)


def assert_ceiling_kept_by_our_log(cli: CommandLine) -> None:
    sent = [
        boot_ns / 1e9
        for (boot_ns,) in cli.query(
            "SELECT sent_boot_ns FROM attempt WHERE sent_boot_ns IS NOT NULL AND "
            "reason IS NOT 'the process died before it knew the outcome' ORDER BY 1"
        )
    ]
    assert all(later - sooner >= 6.0 for sooner, later in zip(sent, sent[300:], strict=False))
