"""What mirrors plan, and what bears on the next plan.

Each is a function on a connection, inside its caller's transaction.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.cohort import Action, Leg
from engine.ledger.following import follow
from engine.ledger.records import CohortKey


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


def open_plan(connection: sqlite3.Connection, run: int) -> PlanRecord | None:
    """Return a plan that may still be sent; None once it is closed, and for one in the shadow."""
    row = connection.execute(
        "SELECT 1 FROM plan WHERE run = ? AND NOT is_closed AND NOT is_shadow", (run,)
    ).fetchone()
    return row and plan_of(connection, run)


def close_plan(connection: sqlite3.Connection, run: int) -> None:
    """Send nothing more of a plan."""
    connection.execute("UPDATE plan SET is_closed = 1 WHERE run = ?", (run,))


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
        key.values,
    ).fetchone()
    if found is None:
        return None
    (exported,) = connection.execute(
        f"SELECT max(exported_utc_ns) {counting}",
        key.values,
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
        key.values,
    ).fetchone()
    return found and found[0]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A uid that the API would not take, and when it last said so."""

    uid: str
    run: int
    utc_ns: int


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
