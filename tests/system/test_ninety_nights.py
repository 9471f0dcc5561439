"""Three months of syncs: the state folder stays as large as its retention says."""

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import pytest
from emulated_api import Emulator, emulator
from nightly import CommandLine, Ended

from engine.clock import Stamp, SystemClock

NIGHTS, KEPT_DAYS, KEPT_GENERATIONS = 90, 10, 4
UIDS, CHURN = 2000, 100
DAY_NS = 86_400 * 1_000_000_000
POISON = "poison-7"
COHORTS = {"vip": "mirror", "lapsed": "mirror", "new": "add", "old": "remove"}
FAULTS = (
    *("--fault", "500=0.05:0.2", "--fault", "reset=0.03:1", "--poison", POISON),
    *("--requests", "300", "--per-seconds", "2"),
)
TRUNCATED, MISSING, STOPPED = {n for n in range(1, NIGHTS) if n % 13 == 0}, {5, 47}, {17, 56, 83}
"""The nights whose export was cut off, is missing, and whose sync ends before all is sent."""

pytestmark = pytest.mark.slow


@contextmanager
def days_later(days: int) -> Iterator[None]:
    """Let the machine's clock show so many days more."""
    stamp = SystemClock.stamp

    def later(clock: SystemClock) -> Stamp:
        now = stamp(clock)
        return replace(now, boot_ns=now.boot_ns + days * DAY_NS, utc_ns=now.utc_ns + days * DAY_NS)

    with patch.object(SystemClock, "stamp", later):
        yield


@dataclass
class Nights:
    """Two mirrors and two pushes, and what their exports hold."""

    cli: CommandLine
    chance: random.Random = field(default_factory=lambda: random.Random(90))
    members: dict[str, set[str]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    """The bytes of the state folder after each night."""
    files: list[int] = field(default_factory=list)

    def configure(self) -> None:
        tables: dict[str, dict[str, object]] = {}
        for cohort, mode in COHORTS.items():
            self.members[cohort] = self._fresh(UIDS)
            tables[f"cohorts.{cohort}"] = {
                "name": cohort,
                "source": f"{cohort}.txt",
                "mode": mode,
                "on_changed": "restart",
            }
        self.cli.configure(
            state={"keep_days": KEPT_DAYS},
            mirror={"settle_seconds": 0.0, "keep_generations": KEPT_GENERATIONS},
            report={"html": "report.html"},
            **tables,
        )

    def _fresh(self, count: int) -> set[str]:
        return {f"{self.chance.getrandbits(96):024x}" for _ in range(count)}

    def live(self, number: int) -> Ended:
        """Sync one night, and measure the state folder."""
        for cohort, members in self.members.items():
            gone = self.chance.sample(sorted(members), CHURN)
            members.difference_update(gone)
            members.update(self._fresh(CHURN))
            lines = [*members, POISON, "", *self.chance.sample(sorted(members), 5)]
            if number in TRUNCATED and cohort == "vip":
                lines = lines[: UIDS // 2]
            path = self.cli.folder / f"{cohort}.txt"
            path.write_text("".join(f"{line}\n" for line in lines))
            written = time.time_ns() + number * DAY_NS
            os.utime(path, ns=(written, written))
            if number in MISSING and cohort == "lapsed":
                path.unlink()
        with days_later(number):
            limit = ("--max-requests", "5") if number in STOPPED else ()
            ended = self.cli.run("sync", *limit, "--json")
        sizes = [each.stat().st_size for each in (self.cli.folder / "state").rglob("*")]
        self.sizes.append(sum(sizes))
        self.files.append(len(sizes))
        return ended


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Emulator]:
    with emulator(tmp_path, *FAULTS) as api:
        yield api


def test_the_state_folder_stays_level(
    tmp_path: Path, api: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = Nights(CommandLine(tmp_path, api.url))
    nights.configure()
    cli, statuses = nights.cli, []
    for number in range(NIGHTS):
        ended = nights.live(number)
        statuses.append(ended.status)
        expected = {2} if number in MISSING else {75} if number in STOPPED else {0, 1}
        assert ended.status in ({4} if number in TRUNCATED else expected), (number, ended.stderr)
        if statuses[-1] in {0, 1}:
            assert api.members("vip") == nights.members["vip"]
            assert api.members("lapsed") == nights.members["lapsed"]
    with days_later(NIGHTS):
        runs = cli.run("runs", "--json")
        shown = cli.run("show", "latest", "--batches")
        report = cli.run("report", "--since", "720h", "--html", "month.html")
        plans = cli.run("plans")
    listed = json.loads(runs.stdout)
    with capsys.disabled():
        print(  # noqa: T201 - the proof's figures
            f"\n{NIGHTS} nights: {api.received():,} requests; KB each tenth night: "
            f"{[size // 1000 for size in nights.sizes[::10]]}, files: {nights.files[::10]}, "
            f"runs that are left: {len(listed)}"
        )
    for command in (runs, shown, plans):
        assert command.status == 0, command.stderr
    assert report.status in {0, 1}, report.stderr
    assert (tmp_path / "month.html").stat().st_size > 0
    assert len(listed) <= len(COHORTS) * (KEPT_DAYS + 2)
    assert max(nights.sizes[60:]) <= 1.05 * max(nights.sizes[20:50])
    assert max(nights.files[60:]) <= 1.1 * max(nights.files[20:50])
