"""What the ledger knows of mirrors: their plans, what became of them, and the snapshots made.

Each is a function on a connection, inside its caller's transaction.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.clock import Stamp
from engine.cohort import Action


@dataclass(frozen=True, slots=True)
class CohortKey:
    """What makes a cohort that cohort, within one ledger."""

    partner: str
    cohort_id: str


@dataclass(frozen=True, slots=True)
class LegCounts:
    """The uids of one action of a plan, in the order of sending."""

    plain: int = 0
    suspect: int = 0
    held: int = 0

    @property
    def planned(self) -> int:
        """All of them."""
        return self.plain + self.suspect + self.held


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan as the ledger keeps it; its uids stand in files."""

    generation: int | None
    """Of the snapshot that it goes on from; None if there was none."""
    first_action: Action
    duplicate: int
    unchanged: int
    known_rejects: int
    adds: LegCounts
    removes: LegCounts
    exported_utc_ns: int | None
    profile: Mapping[str, Any]
    verdicts: Sequence[Mapping[str, Any]]
    allowances: Sequence[Mapping[str, Any]]

    def leg(self, action: Action) -> LegCounts:
        """Return what is planned for `action`."""
        return self.adds if action is Action.ADD else self.removes


@dataclass(frozen=True, slots=True)
class Generation:
    """A snapshot as the ledger keeps it."""

    number: int
    run: int | None
    """The run that led to it; None if a command brought it from elsewhere."""
    file: str | None
    """Its name in the folder of snapshots; None once it has been dropped."""
    digest: bytes
    members: int
    unknown: int
    out: int
    origin: str
    made_utc_ns: int


@dataclass(frozen=True, slots=True)
class Fate:
    """Places of a leg that follow each other, and what may have become of their uids."""

    action: Action
    first_uid: int
    uid_count: int
    is_accepted: bool
    """Accepted; otherwise it may have been applied, and nobody knows."""


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A mirror whose attempts the snapshot does not know of yet."""

    run: int
    name: str
    last_attempt: int


@dataclass(frozen=True, slots=True)
class Touch:
    """A run that sent something to the cohort, and when it did so last."""

    run: int
    sent: Stamp


@dataclass(frozen=True, slots=True)
class Rejection:
    """A uid that the API would not take, and when it last said so."""

    uid: str
    run: int
    utc_ns: int


def enter_plan(connection: sqlite3.Connection, run: int, plan: PlanRecord) -> None:
    """Enter what a mirror plans."""
    connection.execute(
        "INSERT INTO plan (run, generation, first_action, duplicate, unchanged, known_rejects, "
        "add_plain, add_suspect, add_held, remove_plain, remove_suspect, remove_held, "
        "exported_utc_ns, profile, verdicts, allowances) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run,
            plan.generation,
            plan.first_action.value,
            plan.duplicate,
            plan.unchanged,
            plan.known_rejects,
            *(plan.adds.plain, plan.adds.suspect, plan.adds.held),
            *(plan.removes.plain, plan.removes.suspect, plan.removes.held),
            plan.exported_utc_ns,
            json.dumps(plan.profile),
            json.dumps(list(plan.verdicts)),
            json.dumps(list(plan.allowances)),
        ),
    )


def plan_of(connection: sqlite3.Connection, run: int) -> PlanRecord | None:
    """Return what a mirror plans; None if it died before it knew."""
    row = connection.execute(
        "SELECT generation, first_action, duplicate, unchanged, known_rejects, "
        "add_plain, add_suspect, add_held, remove_plain, remove_suspect, remove_held, "
        "exported_utc_ns, profile, verdicts, allowances FROM plan WHERE run = ?",
        (run,),
    ).fetchone()
    if row is None:
        return None
    generation, first_action, duplicate, unchanged, known_rejects, *counts = row[:11]
    exported_utc_ns, profile, verdicts, allowances = row[11:]
    return PlanRecord(
        generation,
        Action(first_action),
        duplicate,
        unchanged,
        known_rejects,
        LegCounts(*counts[:3]),
        LegCounts(*counts[3:]),
        exported_utc_ns,
        json.loads(profile),
        json.loads(verdicts),
        json.loads(allowances),
    )


def last_plan(connection: sqlite3.Connection, key: CohortKey) -> tuple[str, PlanRecord] | None:
    """Return the cohort's name then, and the plan, of the last mirror that has sent or finished."""
    found = connection.execute(
        "SELECT run, cohort_name FROM run JOIN plan USING (run) "
        "WHERE partner = ? AND cohort_id = ? AND (status = 'finished' OR folded_attempt > 0) "
        "ORDER BY run DESC LIMIT 1",
        (key.partner, key.cohort_id),
    ).fetchone()
    if found is None:
        return None
    run, name = found
    plan = plan_of(connection, run)
    return None if plan is None else (name, plan)


def current(connection: sqlite3.Connection, key: CohortKey) -> Generation | None:
    """Return the snapshot that counts; None if the cohort was never mirrored."""
    return next(iter(generations(connection, key)), None)


def generations(connection: sqlite3.Connection, key: CohortKey) -> list[Generation]:
    """Return every snapshot there was, the latest first."""
    rows = connection.execute(
        "SELECT generation, run, file, digest, members, unknown, out, origin, made_utc_ns "
        "FROM generation WHERE partner = ? AND cohort_id = ? ORDER BY generation DESC",
        (key.partner, key.cohort_id),
    )
    return [Generation(*row) for row in rows]


def enter_generation(
    connection: sqlite3.Connection, key: CohortKey, generation: Generation
) -> None:
    """Make a snapshot, whose file is on the disk, the one that counts."""
    connection.execute(
        "INSERT INTO generation (partner, cohort_id, generation, run, file, digest, members, "
        "unknown, out, origin, made_utc_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.partner,
            key.cohort_id,
            generation.number,
            generation.run,
            generation.file,
            generation.digest,
            generation.members,
            generation.unknown,
            generation.out,
            generation.origin,
            generation.made_utc_ns,
        ),
    )


def drop_generations(
    connection: sqlite3.Connection, key: CohortKey, numbers: Sequence[int]
) -> list[str]:
    """Write down that these snapshots' files are no longer kept.

    Returns the names of the runs whose plans none of the snapshots left can need.
    """
    connection.executemany(
        "UPDATE generation SET file = NULL WHERE partner = ? AND cohort_id = ? AND generation = ?",
        [(key.partner, key.cohort_id, number) for number in numbers],
    )
    rows = connection.execute(
        "SELECT name FROM run JOIN plan USING (run) WHERE partner = ?1 AND cohort_id = ?2 "
        "AND run < (SELECT min(run) FROM generation "
        "WHERE partner = ?1 AND cohort_id = ?2 AND file IS NOT NULL)",
        (key.partner, key.cohort_id),
    )
    return [name for (name,) in rows]


def unfolded(connection: sqlite3.Connection, key: CohortKey) -> list[Unfolded]:
    """Return the mirrors that the snapshot has not caught up with, in the order of their runs."""
    rows = connection.execute(
        "SELECT run, name, last FROM (SELECT run, name, folded_attempt, "
        "(SELECT coalesce(max(id), 0) FROM attempt WHERE attempt.run = run.run) AS last "
        "FROM run JOIN plan USING (run) WHERE partner = ? AND cohort_id = ?) "
        "WHERE last > folded_attempt ORDER BY run",
        (key.partner, key.cohort_id),
    )
    return [Unfolded(*row) for row in rows]


def sent_since(connection: sqlite3.Connection, key: CohortKey, utc_ns: int) -> list[Unfolded]:
    """Return the mirrors that have sent anything since then, in the order of their runs."""
    rows = connection.execute(
        "SELECT run, name, max(id) FROM run JOIN plan USING (run) JOIN attempt USING (run) "
        "WHERE partner = ? AND cohort_id = ? GROUP BY run HAVING max(intended_utc_ns) >= ? "
        "ORDER BY run",
        (key.partner, key.cohort_id, utc_ns),
    )
    return [Unfolded(*row) for row in rows]


def open_plan(connection: sqlite3.Connection, run: int) -> PlanRecord | None:
    """Return a plan that may still be sent; None once it is closed."""
    row = connection.execute("SELECT is_closed FROM plan WHERE run = ?", (run,)).fetchone()
    return None if row is None or row[0] else plan_of(connection, run)


def close_plan(connection: sqlite3.Connection, run: int) -> None:
    """Send nothing more of a plan."""
    connection.execute("UPDATE plan SET is_closed = 1 WHERE run = ?", (run,))


def fates(connection: sqlite3.Connection, run: int) -> list[Fate]:
    """Return all of a mirror's places that may have changed the cohort, disjoint."""
    rows = connection.execute(
        "SELECT action, first_uid, uid_count, state = 'accepted' FROM batch AS b WHERE run = ? "
        "AND (state = 'accepted' OR state <> 'split' AND (may_have_been_applied OR EXISTS "
        "(SELECT 1 FROM attempt AS a WHERE a.run = b.run AND a.batch = b.batch "
        "AND a.outcome IS NULL))) ORDER BY action, first_uid",
        (run,),
    )
    return [
        Fate(Action(action), first_uid, uid_count, bool(is_accepted))
        for action, first_uid, uid_count, is_accepted in rows
    ]


def note_folded(
    connection: sqlite3.Connection,
    run: int,
    last_attempt: int,
    generation: int | None,
    *,
    is_closed: bool,
) -> None:
    """Write down that the snapshot knows of a mirror's attempts up to this one."""
    connection.execute(
        "UPDATE plan SET folded_attempt = ?, generation = ?, is_closed = is_closed OR ? "
        "WHERE run = ?",
        (last_attempt, generation, is_closed, run),
    )


def touches(connection: sqlite3.Connection, key: CohortKey) -> list[Touch]:
    """Return each run that sent anything to the cohort, with its last request."""
    rows = connection.execute(
        "SELECT run, sent_boot_id, sent_boot_ns, sent_utc_ns FROM run JOIN attempt USING (run) "
        "WHERE partner = ? AND cohort_id = ? AND sent_utc_ns IS NOT NULL "
        "AND id = (SELECT max(id) FROM attempt AS a WHERE a.run = run.run "
        "AND a.sent_utc_ns IS NOT NULL)",
        (key.partner, key.cohort_id),
    )
    return [Touch(run, Stamp(*stamp)) for run, *stamp in rows]


def rejections(connection: sqlite3.Connection, key: CohortKey) -> list[Rejection]:
    """Return each uid that the API rejected, by its latest rejection."""
    rows = connection.execute(
        "SELECT uid, run, max(coalesce(ended_utc_ns, run.started_utc_ns)) FROM rejected "
        "JOIN run USING (run) LEFT JOIN attempt USING (run, batch) "
        "WHERE partner = ? AND cohort_id = ? GROUP BY uid ORDER BY uid",
        (key.partner, key.cohort_id),
    )
    return [Rejection(*row) for row in rows]


def next_place(connection: sqlite3.Connection, run: int, action: Action) -> int:
    """Return how many uids of a leg stand in batches already."""
    (place,) = connection.execute(
        "SELECT coalesce(max(first_uid + uid_count), 0) FROM batch "
        "WHERE run = ? AND action = ? AND parent IS NULL",
        (run, action.value),
    ).fetchone()
    return int(place)
