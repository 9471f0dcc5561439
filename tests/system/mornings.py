"""State folders of several nights: real runs against the emulator, moved to the hours of a night.

The runs take seconds. Afterwards each moment in the ledgers is moved: the first night becomes two
days ago, and so on, and within a night time passes more slowly.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clean_room import API_KEY, WORKSPACE
from nightly import CommandLine

from engine.ledger.sqlite.syncs import enter_sync
from engine.ledger.sync_records import SyncRecord

SECOND_WORKSPACE = "EUROPE"
POISON = "poison-uid-77"
EMULATED = (
    *("--workspace", f"{SECOND_WORKSPACE}:{API_KEY}", "--poison", POISON, "--seed", "7"),
    *("--fault-at", "429=12", "--fault-at", "500=30"),
)
NOW = datetime(2026, 11, 27, 6, 10, tzinfo=UTC)
"""The moment of the report."""
_MOMENTS = {
    "run": ("started_utc_ns", "finished_utc_ns"),
    "sitting": ("started_utc_ns", "ended_utc_ns"),
    "attempt": ("intended_utc_ns", "sent_utc_ns", "ended_utc_ns"),
    "generation": ("made_utc_ns",),
    "file": ("written_utc_ns",),
    "synced_cohort": ("started_utc_ns", "finished_utc_ns"),
}


def nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


@dataclass
class Mornings:
    """Runs night after night, and moves them."""

    cli: CommandLine
    size: int = 600
    """Members of the smallest cohort."""
    slowness: int = 300
    """By how much time passes slower in the ledgers than it did."""
    _starts: list[int] = field(default_factory=list)

    def begin_night(self) -> None:
        self._starts.append(time.time_ns())

    def configure(self, **tables: dict[str, object]) -> None:
        """Write a configuration for each of the two workspaces."""
        merged = {
            "limits": {"per_seconds": 60.0 / self.slowness},
            "mirror": {"settle_seconds": 0.0},
            "guards": {"same_shape": False, "small_cohort": 50},
            **tables,
        }
        self.cli.configure(workspace={"id": SECOND_WORKSPACE}, **merged)
        (self.cli.folder / "config.toml").rename(self.cli.folder / "europe.toml")
        self.cli.configure(**merged)

    def mirror(
        self, cohort: str, name: str, uids: range, *flags: str, extra: Sequence[str] = ()
    ) -> int:
        return self._run("mirror", cohort, name, uids, *flags, extra=extra)

    def push(
        self, cohort: str, name: str, uids: range, *flags: str, extra: Sequence[str] = ()
    ) -> int:
        return self._run("push", cohort, name, uids, *flags, extra=extra)

    def _run(
        self, command: str, cohort: str, name: str, uids: range, *flags: str, extra: Sequence[str]
    ) -> int:
        export = f"exports-{cohort}-{len(self._starts)}.txt"
        lines = [*(f"{cohort}-uid-{uid:012}" for uid in uids), *extra]
        (self.cli.folder / export).write_bytes(
            b"".join(line.encode("latin-1") + b"\n" for line in lines)
        )
        target = ("--cohort-id", cohort, "--cohort-name", name)
        ended = self.cli.run(command, export, *target, *flags, "--json")
        assert ended.status in {0, 1, 4}, ended.stderr
        return ended.status

    def live(self, nights: int = 2) -> None:
        """Let some nights pass: in the last one a guard blocks, and uids are rejected."""
        self.configure()
        size = self.size
        for number in range(nights):
            self.begin_night()
            moved = number * size // 50
            is_last = number == nights - 1
            self.mirror("vip", "VIP customers", range(moved * 3, moved * 10 + size * 4))
            lapsed = range(size * 2) if is_last else range(moved, moved + size * 8)
            self.mirror("lapsed-90", "Lapsed 90 days", lapsed)
            if is_last or nights > 2:
                self._others(moved, is_last=is_last)

    def _others(self, moved: int, *, is_last: bool) -> None:
        europe = ("--config", "europe.toml")
        size = self.size
        extra = [POISON, "", "\xff\xfe broken"] if is_last else []
        newsletter = range(moved * 2, size * 3 + moved * 5)
        self.mirror("newsletter", "Newsletter readers", newsletter, extra=extra)
        self.push("cart", "Cart abandoners", range(moved, moved + size * 10))
        self.mirror("eu-vip", "VIP customers (EU)", range(moved, moved * 2 + size * 2), *europe)
        if is_last:
            self.push("eu-churned", "Churned", range(size // 2), "--action", "remove", *europe)

    def enter_sync(self) -> None:
        """Enter a sync of the last night: its mirrors, and two cohorts that began no run."""
        [path] = [each for each in self.cli.ledger_files() if WORKSPACE in each.parts]
        with closing(sqlite3.connect(path)) as ledger, ledger:
            runs = ledger.execute(
                "SELECT cohort_id, partner, name, finished_utc_ns, status, exit_status, reason "
                "FROM run WHERE started_utc_ns >= ? AND action = 'mirror'",
                (self._starts[-1],),
            ).fetchall()
            start, date = self._starts[-1], NOW.date().isoformat()
            records = [
                SyncRecord("sync-1", cohort, partner, cohort, start, date, end, *rest, run)
                for cohort, partner, run, end, *rest in runs
            ]
            partner = records[0].partner
            missing = "no file matches exports/prospects-2026-11-27*.csv.gz; waited 2 h for it"
            records += [
                SyncRecord(
                    *("sync-1", "prospects", partner, "prospects", start, date, start + 10**8),
                    *("missing", 2, missing),
                ),
                SyncRecord(
                    *("sync-1", "winback", partner, "winback", start, date, start + 2 * 10**8),
                    *("not_begun", 75, "the sync reached --until 04:00 before it began"),
                ),
            ]
            enter_sync(ledger, records)

    def move(self) -> None:
        """Move each night to two o'clock, the last one to that of `NOW`."""
        last = nanoseconds(NOW.replace(hour=2, minute=0))
        day = nanoseconds(datetime.fromtimestamp(0, UTC) + timedelta(days=1))
        starts = [*self._starts, 1 << 62]

        def moved(utc_ns: int | None) -> int | None:
            if utc_ns is None:
                return None
            number = max(0, next(n for n, start in enumerate(starts) if utc_ns < start) - 1)
            base = last - (len(self._starts) - 1 - number) * day
            return base + (utc_ns - starts[number]) * self.slowness

        def written(utc_ns: int | None) -> int | None:
            at = moved(utc_ns)
            return at and at - 47 * 60 * 1_000_000_000

        for path in self.cli.ledger_files():
            self._change(path, {"moved": moved, "written": written})

    def _change(self, path: Path, functions: dict[str, Callable[[int | None], int | None]]) -> None:
        with closing(sqlite3.connect(path)) as ledger, ledger:
            for name, function in functions.items():
                ledger.create_function(name, 1, function, deterministic=True)
            for table, columns in _MOMENTS.items():
                by = "written" if table == "file" else "moved"
                changes = ", ".join(f"{column} = {by}({column})" for column in columns)
                ledger.execute(f"UPDATE {table} SET {changes}")
            ledger.execute(f"UPDATE sitting SET per_seconds = per_seconds * {self.slowness}")
