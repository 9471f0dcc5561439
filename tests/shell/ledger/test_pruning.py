"""A ledger answers what later runs ask of it as before, once its old runs are deleted."""

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as some

from engine.ledger.records import MIRROR
from engine.ledger.sqlite import plans, runs, snapshot_index
from engine.ledger.sqlite.history import RunHistory
from engine.ledger.sqlite.pruning import Bounds, Pruner
from engine.ledger.sqlite.schema import open_ledger
from engine.ledger.sqlite.uid_history import UidHistory
from engine.model.cohort import CohortKey
from engine.model.status import RunStatus
from engine.storage.paths import LEDGER_NAME

DAY_NS = 86_400_000_000_000
NOW = 20_000 * DAY_NS
BOUNDS = Bounds(NOW - 90 * DAY_NS, NOW - 200 * DAY_NS, keep_generations=2)
KEYS = [CohortKey("p", name, shadow) for name in ("a", "b") for shadow in (False, True)]


@dataclass(frozen=True)
class Run:
    """A run as a ledger may hold it."""

    key: CohortKey
    age_days: int
    action: str
    status: str
    sent: str | None
    """What became of its only batch; None if it was not sent."""
    is_resend: bool
    is_exported: bool
    is_followed: bool
    is_folded: bool
    makes_snapshot: bool

    def enter(self, ledger: sqlite3.Connection, number: int) -> None:
        at = NOW - self.age_days * DAY_NS
        is_mirror = self.action == MIRROR
        ledger.execute(
            "INSERT INTO run (run, name, identity, endpoint, workspace, partner, cohort_id, "
            "cohort_name, action, exports, reading, sizes, status, started_utc_ns, "
            "finished_utc_ns) VALUES (?, ?, ?, 'e', 'w', ?, ?, ?, ?, '[\"x\"]', '{}', '{}', ?, ?, "
            "?)",
            (
                *(number, f"r{number:03}", b"%d" % number, self.key.partner, self.key.cohort_id),
                *(f"name {number}", self.action, self.status, at, at + 1),
            ),
        )
        ledger.execute(
            "INSERT INTO sitting VALUES (?, 1, 300, 60.0, 128000, 'h', 1, ?, ?, NULL, '')",
            (number, at, at + 1),
        )
        if is_mirror:
            ledger.execute(
                "INSERT INTO plan VALUES (?, ?, NULL, 'add', 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, ?, ?, "
                "?, '{}', '[]', '[]', '{}', 0, NULL)",
                (
                    *(number, self.key.is_shadow, 3 if self.is_resend else 0),
                    *(f"member {number}", at if self.is_exported else None),
                ),
            )
        last = self._send(ledger, number, at) if self.sent and not self.key.is_shadow else 0
        if self.is_followed or is_mirror:
            ledger.execute(
                "INSERT INTO followed VALUES (?, ?)", (number, last if self.is_folded else 0)
            )
        if self.makes_snapshot:
            ledger.execute(
                "INSERT INTO generation SELECT ?, ?, ?, coalesce(max(generation), 0) + 1, ?, 'f', "
                "x'00', 1, ?, 0, 'mirror', 'boot', 0, ?, (SELECT coalesce(max(id), 0) FROM attempt)"
                ", '[]' FROM generation WHERE partner = ? AND cohort_id = ? AND is_shadow = ?",
                (*self.key.values, number, self.sent == "open", at + 1, *self.key.values),
            )

    def _send(self, ledger: sqlite3.Connection, number: int, at: int) -> int:
        leg = "resend" if self.is_resend else "remove" if self.action == "remove" else "add"
        ledger.execute(
            "INSERT INTO batch (run, batch, first_uid, uid_count, blank, invalid, is_last, "
            "payload_bytes, state, may_have_been_applied, leg) "
            "VALUES (?, 1, 0, 3, 0, 0, 1, 9, ?, ?, ?)",
            (number, self.sent, self.sent == "open", leg),
        )
        if self.sent == "rejected":
            ledger.execute(
                "INSERT INTO rejected VALUES (?, 1, 'x', 1, ?, 'bad', NULL)", (number, f"u{number}")
            )
        cursor = ledger.execute(
            "INSERT INTO attempt (run, batch, attempt, sitting, intended_utc_ns, sent_boot_id, "
            "sent_boot_ns, sent_utc_ns, ended_utc_ns, outcome) "
            "VALUES (?, 1, 1, 1, ?, 'boot', 0, ?, ?, 'accepted')",
            (number, at, at, at),
        )
        return int(cursor.lastrowid or 0)


statuses = [each.value for each in RunStatus if each is not RunStatus.RUNNING]
some_runs = some.builds(
    Run,
    key=some.sampled_from(KEYS),
    age_days=some.sampled_from([400, 150, 1]),
    action=some.just(MIRROR),
    status=some.sampled_from(statuses),
    sent=some.sampled_from([None, "accepted", "open", "rejected"]),
    is_resend=some.booleans(),
    is_exported=some.booleans(),
    is_followed=some.booleans(),
    is_folded=some.booleans(),
    makes_snapshot=some.booleans(),
)
some_pushes = some.builds(
    Run,
    key=some.sampled_from(KEYS[::2]),
    age_days=some.sampled_from([400, 150, 1]),
    action=some.sampled_from(["add", "remove"]),
    status=some.sampled_from(statuses),
    sent=some.sampled_from([None, "accepted", "open", "rejected"]),
    is_resend=some.just(value=False),
    is_exported=some.just(value=False),
    is_followed=some.booleans(),
    is_folded=some.booleans(),
    makes_snapshot=some.just(value=False),
)


def answers(path: Path) -> dict[str, object]:
    """Return what later runs ask of the ledger."""
    with closing(sqlite3.connect(path)) as ledger:
        history, uids = RunHistory(ledger), UidHistory(ledger)
        found: dict[str, object] = {
            "numbers": ledger.execute(
                "SELECT (SELECT max(run) FROM run), (SELECT max(id) FROM attempt)"
            ).fetchone(),
            "unfinished": sorted(run.name for run in history.resumable()),
        }
        for key in KEYS:
            kept = [each for each in snapshot_index.generations(ledger, key) if each.file]
            oldest = min((each.last_attempt for each in kept), default=0)
            rejected = plans.rejections(ledger, key)
            found[str(key)] = (
                plans.last_mirror(ledger, key),
                runs.last_name(ledger, key),
                plans.resent_through(ledger, key),
                snapshot_index.unfolded(ledger, key),
                snapshot_index.sent_since(ledger, key, oldest) if kept else None,
                [each.run for each in kept],
                runs.is_mirrored(ledger, key),
                bool(runs.unrecorded_pushes(ledger, key)),
                [each for each in rejected if each.utc_ns >= BOUNDS.rejected_before_utc_ns],
                [each.name for each in uids.planned_runs(key)[:1]],
                history.last_run(key),
                ledger.execute(
                    "SELECT max(run) FROM run WHERE status = 'finished' AND cohort_id = ?",
                    (key.cohort_id,),
                ).fetchone(),
                unknown(ledger, key),
            )
        return found


def unknown(ledger: sqlite3.Connection, key: CohortKey) -> list[int]:
    """Return the runs whose uids may have been applied, unless no uid is unknown any more."""
    current = snapshot_index.current(ledger, CohortKey(key.partner, key.cohort_id))
    is_settled = current is not None and current.unknown == 0
    return [
        run
        for (run,) in ledger.execute(
            "SELECT DISTINCT run FROM run JOIN batch USING (run) WHERE cohort_id = ? "
            "AND may_have_been_applied AND (NOT ? OR run NOT IN (SELECT run FROM followed))",
            (key.cohort_id, is_settled),
        )
    ]


@settings(max_examples=2 * settings().max_examples)
@given(some.lists(some.one_of(some_runs, some_pushes), max_size=9))
def test_a_later_run_gets_the_same_answers(found: list[Run]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / LEDGER_NAME
        with closing(open_ledger(path)) as ledger:
            ledger.execute("PRAGMA synchronous = OFF")
            ledger.execute("BEGIN")
            for number, run in enumerate(sorted(found, key=lambda run: -run.age_days), 1):
                run.enter(ledger, number)
            ledger.execute("COMMIT")
        with Pruner.open(path) as pruner:
            for key in KEYS:
                numbers = [each.number for each in pruner.old_generations(key, BOUNDS)]
                pruner.drop_generations(key, numbers)
            before = answers(path)
            for key in pruner.cohorts():
                for run in pruner.old_runs(key, BOUNDS, dropped=[]):
                    pruner.delete_run(run.number)
            while pruner.delete_some():
                pass
            for key in KEYS:
                pruner.forget_generations(key, BOUNDS)
        assert answers(path) == before
        with closing(sqlite3.connect(path)) as ledger:
            assert ledger.execute("PRAGMA foreign_key_check").fetchall() == []
