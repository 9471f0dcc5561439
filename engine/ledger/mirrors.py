"""What the ledger knows of mirrors: their plans, what became of them, and the snapshots made.

Each is a function on a connection, inside its caller's transaction.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.clock import Stamp
from engine.cohort import Action, Leg


@dataclass(frozen=True, slots=True)
class CohortKey:
    """What makes a cohort that cohort, within one ledger."""

    partner: str
    cohort_id: str
    is_shadow: bool = False
    """Whether it is the cohort as it would be, had all been sent that nobody ever sends."""


@dataclass(frozen=True, slots=True)
class LegCounts:
    """The uids of one leg of a plan, in the order of sending."""

    plain: int = 0
    suspect: int = 0
    held: int = 0

    @property
    def planned(self) -> int:
        """All of them."""
        return self.plain + self.suspect + self.held


@dataclass(frozen=True, slots=True)
class Stretch:
    """Uids of a leg that are sent together."""

    leg: Leg
    end: int
    """The place behind the last; they begin where the leg has come to."""
    is_held: bool
    """Whether they wait until earlier changes have settled."""


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan as the ledger keeps it; its uids stand in files."""

    generation: int | None
    """Of the snapshot that it goes on from; None if there was none."""
    first_action: Action
    duplicate: int
    unchanged: int
    known_rejects: int
    legs: Mapping[Leg, LegCounts]
    resent_through: str | None
    """The member that the round of resending has come to, as the ledger keeps it."""
    exported_utc_ns: int | None
    profile: Mapping[str, Any]
    verdicts: Sequence[Mapping[str, Any]]
    allowances: Sequence[Mapping[str, Any]]
    forecast: Mapping[str, Any]
    """What it comes to: requests, bytes, seconds, when it would be done."""

    @property
    def is_blocked(self) -> bool:
        """Whether a guard keeps it from being sent."""
        return any(told["verdict"] == "blocks" for told in self.verdicts)

    @property
    def stretches(self) -> Sequence[Stretch]:
        """What is sent, in that order: what reverses a recent change comes last."""
        first = Leg(self.first_action)
        order = (first, Leg.ADD if first is Leg.REMOVE else Leg.REMOVE, Leg.RESEND)
        counts = [(leg, self.legs[leg]) for leg in order]
        at_once = [
            Stretch(leg, end, is_held=False)
            for leg, count in counts
            for end in (count.plain, count.plain + count.suspect)
        ]
        return at_once + [Stretch(leg, count.planned, is_held=True) for leg, count in counts]


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
    last_attempt: int
    """The last attempt of the ledger that it knows of."""


@dataclass(frozen=True, slots=True)
class Fate:
    """Places of a leg that follow each other, and what may have become of their uids."""

    leg: Leg
    first_uid: int
    uid_count: int
    is_accepted: bool
    """Accepted; otherwise it may have been applied, and nobody knows."""


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A run whose attempts the snapshot does not know of yet."""

    run: int
    name: str
    last_attempt: int


@dataclass(frozen=True, slots=True)
class Touch:
    """A run that sent something to the cohort, and when it did so last."""

    run: int
    sent: Stamp
    has_resent: bool
    """Whether members that were in already were among it."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A uid that the API would not take, and when it last said so."""

    uid: str
    run: int
    utc_ns: int


_PLAN_COLUMNS = (
    *("is_shadow", "generation", "first_action", "duplicate", "unchanged", "known_rejects"),
    *("add_plain", "add_suspect", "add_held", "remove_plain", "remove_suspect", "remove_held"),
    *("resend", "resent_through", "exported_utc_ns", "profile", "verdicts", "allowances"),
    "forecast",
)


def enter_plan(
    connection: sqlite3.Connection, run: int, plan: PlanRecord, *, is_shadow: bool
) -> None:
    """Enter what a mirror plans; its snapshot is to follow what becomes of it."""
    add, remove = plan.legs[Leg.ADD], plan.legs[Leg.REMOVE]
    marks = ", ".join("?" for _ in _PLAN_COLUMNS)
    connection.execute(
        f"INSERT INTO plan (run, {', '.join(_PLAN_COLUMNS)}) VALUES (?, {marks})",  # noqa: S608 - our own names
        (
            run,
            is_shadow,
            plan.generation,
            plan.first_action.value,
            *(plan.duplicate, plan.unchanged, plan.known_rejects),
            *(add.plain, add.suspect, add.held),
            *(remove.plain, remove.suspect, remove.held),
            plan.legs[Leg.RESEND].plain,
            plan.resent_through,
            plan.exported_utc_ns,
            json.dumps(plan.profile),
            json.dumps(list(plan.verdicts)),
            json.dumps(list(plan.allowances)),
            json.dumps(plan.forecast),
        ),
    )
    follow(connection, run)


def follow(connection: sqlite3.Connection, run: int) -> None:
    """Let the cohort's snapshot follow what becomes of a run's batches."""
    connection.execute("INSERT INTO followed (run) VALUES (?) ON CONFLICT DO NOTHING", (run,))


def is_followed(connection: sqlite3.Connection, run: int) -> bool:
    """Say whether the cohort's snapshot follows what becomes of a run's batches."""
    found = connection.execute("SELECT 1 FROM followed WHERE run = ?", (run,)).fetchone()
    return found is not None


def is_unrecorded(connection: sqlite3.Connection, run: int) -> bool:
    """Say whether a run has cut batches whose uids are not kept for a snapshot."""
    found = connection.execute(
        "SELECT 1 FROM batch WHERE run = ?1 AND NOT EXISTS "
        "(SELECT 1 FROM followed WHERE run = ?1) LIMIT 1",
        (run,),
    ).fetchone()
    return found is not None


def plan_of(connection: sqlite3.Connection, run: int) -> PlanRecord | None:
    """Return what a mirror plans; None if it died before it knew."""
    row = connection.execute(
        f"SELECT {', '.join(_PLAN_COLUMNS)} FROM plan WHERE run = ?",  # noqa: S608 - our own names
        (run,),
    ).fetchone()
    if row is None:
        return None
    kept = dict(zip(_PLAN_COLUMNS, row, strict=True))
    legs = {
        leg: LegCounts(*(kept[f"{leg}_{part}"] for part in ("plain", "suspect", "held")))
        for leg in (Leg.ADD, Leg.REMOVE)
    }
    return PlanRecord(
        kept["generation"],
        Action(kept["first_action"]),
        kept["duplicate"],
        kept["unchanged"],
        kept["known_rejects"],
        legs | {Leg.RESEND: LegCounts(kept["resend"])},
        kept["resent_through"],
        kept["exported_utc_ns"],
        *(json.loads(kept[name]) for name in ("profile", "verdicts", "allowances", "forecast")),
    )


@dataclass(frozen=True, slots=True)
class LastMirror:
    """The last mirror of a cohort that has sent something, or had nothing to send."""

    cohort_name: str
    cohort_description: str | None
    profile: Mapping[str, Any]
    exported_utc_ns: int | None
    """When the latest export was written of all that were mirrored; None if nobody knows."""


def last_mirror(connection: sqlite3.Connection, key: CohortKey) -> LastMirror | None:
    """Return what the guards hold tonight's export against."""
    counting = (
        "FROM run JOIN plan USING (run) LEFT JOIN followed USING (run) "
        "WHERE partner = ? AND cohort_id = ? AND is_shadow = ? "
        "AND (status IN ('finished', 'shadow') OR attempt > 0)"
    )
    found = connection.execute(
        f"SELECT cohort_name, cohort_description, profile {counting} ORDER BY run DESC LIMIT 1",
        _values(key),
    ).fetchone()
    if found is None:
        return None
    (exported,) = connection.execute(
        f"SELECT max(exported_utc_ns) {counting}",
        _values(key),
    ).fetchone()
    name, description, profile = found
    return LastMirror(name, description, json.loads(profile), exported)


def resent_through(connection: sqlite3.Connection, key: CohortKey) -> str | None:
    """Return the member that the last slice of resent members has come to; None: a round begins.

    A slice that was not sent to its end does not count: it is sent again.
    """
    found: tuple[str | None] | None = connection.execute(
        "SELECT resent_through FROM run JOIN plan USING (run) "
        "WHERE partner = ? AND cohort_id = ? AND is_shadow = ? AND resend > 0 AND resend = "
        "(SELECT coalesce(sum(uid_count), 0) FROM batch WHERE batch.run = run.run "
        "AND leg = 'resend' AND state IN ('accepted', 'rejected')) ORDER BY run DESC LIMIT 1",
        _values(key),
    ).fetchone()
    return found and found[0]


def _values(key: CohortKey) -> tuple[str, str, bool]:
    return key.partner, key.cohort_id, key.is_shadow


def current(connection: sqlite3.Connection, key: CohortKey) -> Generation | None:
    """Return the snapshot that counts; None if the cohort was never mirrored."""
    return next(iter(generations(connection, key)), None)


def generations(connection: sqlite3.Connection, key: CohortKey) -> list[Generation]:
    """Return every snapshot there was, the latest first."""
    rows = connection.execute(
        "SELECT generation, run, file, digest, members, unknown, out, origin, made_utc_ns, "
        "last_attempt "
        "FROM generation WHERE partner = ? AND cohort_id = ? AND is_shadow = ? "
        "ORDER BY generation DESC",
        _values(key),
    )
    return [Generation(*row) for row in rows]


def enter_generation(
    connection: sqlite3.Connection, key: CohortKey, generation: Generation
) -> None:
    """Make a snapshot, whose file is on the disk, the one that counts."""
    connection.execute(
        "INSERT INTO generation (partner, cohort_id, is_shadow, generation, run, file, digest, "
        "members, unknown, out, origin, made_utc_ns, last_attempt) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *_values(key),
            generation.number,
            generation.run,
            generation.file,
            generation.digest,
            generation.members,
            generation.unknown,
            generation.out,
            generation.origin,
            generation.made_utc_ns,
            generation.last_attempt,
        ),
    )


def drop_generations(
    connection: sqlite3.Connection, key: CohortKey, numbers: Sequence[int]
) -> list[str]:
    """Write down that these snapshots' files are no longer kept.

    Returns the names of the runs whose plans none of the snapshots left can need.
    """
    connection.executemany(
        "UPDATE generation SET file = NULL WHERE partner = ? AND cohort_id = ? AND is_shadow = ? "
        "AND generation = ?",
        [(*_values(key), number) for number in numbers],
    )
    rows = connection.execute(
        "SELECT name FROM run JOIN followed USING (run) LEFT JOIN plan USING (run) "
        "WHERE partner = ?1 AND cohort_id = ?2 AND coalesce(is_shadow, 0) = ?3 "
        "AND run < (SELECT min(run) FROM generation "
        "WHERE partner = ?1 AND cohort_id = ?2 AND is_shadow = ?3 AND file IS NOT NULL)",
        _values(key),
    )
    return [name for (name,) in rows]


_LAST_ATTEMPT = "(SELECT coalesce(max(id), 0) FROM attempt AS a WHERE a.run = run.run)"


def unfolded(connection: sqlite3.Connection, key: CohortKey) -> list[Unfolded]:
    """Return the runs that the snapshot has not caught up with, in their order."""
    if key.is_shadow:
        return []
    rows = connection.execute(
        f"SELECT run, name, {_LAST_ATTEMPT} AS last FROM run JOIN followed USING (run) "  # noqa: S608 - our own words
        "WHERE partner = ? AND cohort_id = ? AND last > attempt ORDER BY run",
        (key.partner, key.cohort_id),
    )
    return [Unfolded(*row) for row in rows]


def sent_since(connection: sqlite3.Connection, key: CohortKey, attempt: int) -> list[Unfolded]:
    """Return the followed runs that have sent anything after an attempt, in their order."""
    rows = connection.execute(
        "SELECT run, name, max(id) FROM run JOIN followed USING (run) "
        "JOIN attempt AS a USING (run) WHERE partner = ? AND cohort_id = ? "
        "GROUP BY run HAVING max(id) > ? ORDER BY run",
        (key.partner, key.cohort_id, attempt),
    )
    return [] if key.is_shadow else [Unfolded(*row) for row in rows]


def last_attempt(connection: sqlite3.Connection) -> int:
    """Return the number of the last attempt of all."""
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()
    return int(last)


def open_plan(connection: sqlite3.Connection, run: int) -> PlanRecord | None:
    """Return a plan that may still be sent; None once it is closed, and for one in the shadow."""
    row = connection.execute(
        "SELECT 1 FROM plan WHERE run = ? AND NOT is_closed AND NOT is_shadow", (run,)
    ).fetchone()
    return row and plan_of(connection, run)


def close_plan(connection: sqlite3.Connection, run: int) -> None:
    """Send nothing more of a plan."""
    connection.execute("UPDATE plan SET is_closed = 1 WHERE run = ?", (run,))


def fates(connection: sqlite3.Connection, run: int) -> list[Fate]:
    """Return all of a run's places that may have changed the cohort, disjoint.

    What is sent again is not among them: who was in stays in.
    """
    rows = connection.execute(
        "SELECT leg, first_uid, uid_count, state = 'accepted' FROM batch AS b WHERE run = ? "
        "AND leg <> 'resend' AND (state = 'accepted' OR state <> 'split' "
        "AND (may_have_been_applied OR EXISTS (SELECT 1 FROM attempt AS a "
        "WHERE a.run = b.run AND a.batch = b.batch AND a.outcome IS NULL))) "
        "ORDER BY leg, first_uid",
        (run,),
    )
    return [
        Fate(Leg(leg), first_uid, uid_count, bool(is_accepted))
        for leg, first_uid, uid_count, is_accepted in rows
    ]


def note_folded(
    connection: sqlite3.Connection,
    run: int,
    last_attempt: int,
    generation: int | None,
    *,
    is_closed: bool,
) -> None:
    """Write down that the snapshot knows of a run's attempts up to this one."""
    connection.execute("UPDATE followed SET attempt = ? WHERE run = ?", (last_attempt, run))
    connection.execute(
        "UPDATE plan SET generation = ?, is_closed = is_closed OR ? WHERE run = ?",
        (generation, is_closed, run),
    )


def touches(connection: sqlite3.Connection, key: CohortKey) -> list[Touch]:
    """Return each run that sent anything to the cohort, with its last request."""
    rows = connection.execute(
        "SELECT run, sent_boot_id, sent_boot_ns, sent_utc_ns, EXISTS "
        "(SELECT 1 FROM batch WHERE batch.run = run.run AND leg = 'resend') "
        "FROM run JOIN attempt USING (run) "
        "WHERE partner = ? AND cohort_id = ? AND sent_utc_ns IS NOT NULL "
        "AND id = (SELECT max(id) FROM attempt AS a WHERE a.run = run.run "
        "AND a.sent_utc_ns IS NOT NULL)",
        (key.partner, key.cohort_id),
    )
    return [Touch(run, Stamp(*stamp), bool(has_resent)) for run, *stamp, has_resent in rows]


def rejections(connection: sqlite3.Connection, key: CohortKey) -> list[Rejection]:
    """Return each uid that the API rejected, by its latest rejection."""
    rows = connection.execute(
        "SELECT uid, run, max(coalesce(ended_utc_ns, run.started_utc_ns)) FROM rejected "
        "JOIN run USING (run) LEFT JOIN attempt USING (run, batch) "
        "WHERE partner = ? AND cohort_id = ? GROUP BY uid ORDER BY uid",
        (key.partner, key.cohort_id),
    )
    return [Rejection(*row) for row in rows]


def next_place(connection: sqlite3.Connection, run: int, leg: Leg) -> int:
    """Return how many uids of a leg stand in batches already."""
    (place,) = connection.execute(
        "SELECT coalesce(max(first_uid + uid_count), 0) FROM batch "
        "WHERE run = ? AND leg = ? AND parent IS NULL",
        (run, leg.value),
    ).fetchone()
    return int(place)


def pushed_before(connection: sqlite3.Connection, key: CohortKey) -> list[str]:
    """Return the runs that sent something to the cohort which no snapshot follows."""
    rows = connection.execute(
        "SELECT name FROM run WHERE partner = ? AND cohort_id = ? "
        "AND EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = run.run) "
        "AND run NOT IN (SELECT run FROM followed) ORDER BY run",
        (key.partner, key.cohort_id),
    )
    return [name for (name,) in rows]
