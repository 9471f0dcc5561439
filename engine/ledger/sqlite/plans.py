"""What mirrors plan, and what affects the next plan.

Each is a function on a connection, inside its caller's transaction.
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from engine.ledger.plan_records import LastMirror, OperationCounts, PlanRecord, Rejection
from engine.ledger.sqlite.runs import record_changes
from engine.ledger.sqlite.store import Store, by_reader, in_transaction
from engine.model.cohort import Action, CohortKey, Operation

_PLAN_COLUMNS = (
    *("is_shadow", "is_closed", "generation", "first_action", "duplicate", "unchanged"),
    *("add_plain", "add_suspect", "add_held", "add_known"),
    *("remove_plain", "remove_suspect", "remove_held", "remove_known"),
    *("resend", "resent_through", "exported_utc_ns", "profile", "verdicts", "allowances"),
    "forecast",
)


def enter_plan(
    connection: sqlite3.Connection, run: int, plan: PlanRecord, *, is_shadow: bool
) -> None:
    """Enter what a mirror plans; the snapshot will include the outcomes.

    A plan that a guard blocks is closed at once, so that it stays closed if the process dies.
    """
    add, remove = plan.operations[Operation.ADD], plan.operations[Operation.REMOVE]
    marks = ", ".join("?" for _ in _PLAN_COLUMNS)
    connection.execute(
        f"INSERT INTO plan (run, {', '.join(_PLAN_COLUMNS)}) VALUES (?, {marks})",  # noqa: S608 - our own names
        (
            run,
            is_shadow,
            plan.is_blocked,
            plan.generation,
            plan.first_action.value,
            *(plan.duplicate, plan.unchanged),
            *(add.plain, add.suspect, add.held, add.known),
            *(remove.plain, remove.suspect, remove.held, remove.known),
            plan.operations[Operation.RESEND].plain,
            plan.resent_through,
            plan.exported_utc_ns,
            json.dumps(plan.profile),
            json.dumps(list(plan.verdicts)),
            json.dumps(list(plan.allowances)),
            json.dumps(plan.forecast),
        ),
    )
    record_changes(connection, run)


def plan_of(connection: sqlite3.Connection, run: int) -> PlanRecord | None:
    """Return what a mirror plans; None if its process died before the plan was made."""
    row = connection.execute(
        f"SELECT {', '.join(_PLAN_COLUMNS)} FROM plan WHERE run = ?",  # noqa: S608 - our own names
        (run,),
    ).fetchone()
    if row is None:
        return None
    kept = dict(zip(_PLAN_COLUMNS, row, strict=True))
    operations = {
        operation: OperationCounts(
            *(kept[f"{operation}_{part}"] for part in ("plain", "suspect", "held", "known"))
        )
        for operation in (Operation.ADD, Operation.REMOVE)
    }
    return PlanRecord(
        kept["generation"],
        Action(kept["first_action"]),
        kept["duplicate"],
        kept["unchanged"],
        operations | {Operation.RESEND: OperationCounts(kept["resend"])},
        kept["resent_through"],
        kept["exported_utc_ns"],
        *(json.loads(kept[name]) for name in ("profile", "verdicts", "allowances", "forecast")),
    )


def open_plan(connection: sqlite3.Connection, run: int) -> PlanRecord | None:
    """Return a plan that may still be sent; None once it is closed, and for a shadow's plan."""
    row = connection.execute(
        "SELECT 1 FROM plan WHERE run = ? AND NOT is_closed AND NOT is_shadow", (run,)
    ).fetchone()
    return row and plan_of(connection, run)


def overtaken_by(connection: sqlite3.Connection, run: int, key: CohortKey) -> str | None:
    """Return the name of a run that has mirrored the cohort, or pushed to it, after a plan."""
    found: tuple[str] | None = connection.execute(
        "SELECT name FROM run LEFT JOIN plan USING (run) WHERE partner = ? AND cohort_id = ? "
        "AND coalesce(is_shadow, 0) = ? AND run > ? AND (status = 'finished' OR EXISTS "
        "(SELECT 1 FROM attempt AS a WHERE a.run = run.run)) ORDER BY run DESC LIMIT 1",
        (*key.values, run),
    ).fetchone()
    return found and found[0]


def set_generation(connection: sqlite3.Connection, run: int, generation: int) -> None:
    """Record the number of the generation that a plan is based on, once it has one."""
    connection.execute("UPDATE plan SET generation = ? WHERE run = ?", (generation, run))


def seal(connection: sqlite3.Connection, run: int, digests: Mapping[Operation, bytes]) -> None:
    """Record the digests of a plan's files that are kept for `apply`."""
    kept = {operation.value: digest.hex() for operation, digest in digests.items()}
    connection.execute("UPDATE plan SET digests = ? WHERE run = ?", (json.dumps(kept), run))


def seals(connection: sqlite3.Connection, run: int) -> Mapping[Operation, bytes]:
    """Return the digests that the files of a kept plan must have."""
    (kept,) = connection.execute("SELECT digests FROM plan WHERE run = ?", (run,)).fetchone()
    return {
        Operation(operation): bytes.fromhex(digest)
        for operation, digest in json.loads(kept or "{}").items()
    }


def close_plan(connection: sqlite3.Connection, run: int) -> None:
    """Close a plan: no more of it is sent."""
    connection.execute("UPDATE plan SET is_closed = 1 WHERE run = ?", (run,))


# A run whose every request the API refused has mirrored nothing.
_COUNTING = (
    "FROM run JOIN plan USING (run) WHERE partner = ?1 AND cohort_id = ?2 AND is_shadow = ?3 "
    "AND (status IN ('finished', 'shadow') OR EXISTS (SELECT 1 FROM batch "
    "WHERE batch.run = run.run AND (state = 'accepted' OR may_have_been_applied)))"
)
"""Selects the mirrors of a cohort that later ones go by."""


def last_mirror(connection: sqlite3.Connection, key: CohortKey) -> LastMirror | None:
    """Return the last mirror, with which the guards compare an export."""
    found = connection.execute(
        f"SELECT run, status, cohort_name, cohort_description {_COUNTING} "
        "ORDER BY run DESC LIMIT 1",
        key.values,
    ).fetchone()
    if found is None:
        return None

    def latest(column: str, unknown: str) -> Any:  # noqa: ANN401 - the value of a column
        """Return the last value that is known: a list of changes may have been empty."""
        row = connection.execute(
            f"SELECT {column} {_COUNTING} AND {column} IS NOT {unknown} ORDER BY run DESC LIMIT 1",
            key.values,
        ).fetchone()
        return row and row[0]

    run, status, name, description = found
    left = 0 if status in {"finished", "shadow"} else _additions_left(connection, run)
    profile = json.loads(latest("profile", "'{}'") or "{}")
    return LastMirror(name, description, profile, latest("exported_utc_ns", "NULL"), left)


def is_partial(connection: sqlite3.Connection, key: CohortKey) -> bool:
    """Return whether uids that a cohort's snapshot does not have may be members.

    The first list of changes says nothing of them, until a list of all members is taken over.
    """
    (found,) = connection.execute(
        "SELECT coalesce((SELECT json_extract(forecast, '$.is_partial') "  # noqa: S608 - our own words
        f"{_COUNTING} ORDER BY run DESC LIMIT 1), 0) AND NOT EXISTS (SELECT 1 FROM generation "
        "WHERE partner = ?1 AND cohort_id = ?2 AND is_shadow = ?3 "
        "AND origin IN ('import', 'reconcile'))",
        key.values,
    ).fetchone()
    return bool(found)


def _additions_left(connection: sqlite3.Connection, run: int) -> int:
    plan = plan_of(connection, run)
    found = {each["guard"]: each["verdict"] for each in plan.verdicts} if plan else {}
    if plan is None or found.get("additions") != "passes":  # A guard was lifted for one run only.
        return 0
    # What may have been applied is uncertain, so it is not counted among the additions either.
    (settled,) = connection.execute(
        "SELECT coalesce(sum(uid_count), 0) FROM batch WHERE run = ? AND leg = 'add' "
        "AND (state IN ('accepted', 'rejected') OR state = 'open' AND may_have_been_applied)",
        (run,),
    ).fetchone()
    return plan.operations[Operation.ADD].planned - int(settled)


def resent_through(connection: sqlite3.Connection, key: CohortKey) -> str | None:
    """Return the last member of the last slice of resent members; None if a new round begins.

    A slice that was not sent completely does not count: it is sent again.
    """
    found: tuple[str | None] | None = connection.execute(
        "SELECT resent_through FROM run JOIN plan USING (run) "
        "WHERE partner = ? AND cohort_id = ? AND is_shadow = ? AND resend > 0 AND resend = "
        "(SELECT coalesce(sum(uid_count), 0) FROM batch WHERE batch.run = run.run "
        "AND leg = 'resend' AND state IN ('accepted', 'rejected')) ORDER BY run DESC LIMIT 1",
        key.values,
    ).fetchone()
    return found and found[0]


def rejections(connection: sqlite3.Connection, key: CohortKey) -> list[Rejection]:
    """Return each uid that the API rejected, by the latest rejection of each action."""
    rows = connection.execute(
        "SELECT uid, iif(leg = 'remove', 'remove', 'add') AS asked, run, "
        "max(coalesce(ended_utc_ns, run.started_utc_ns)) FROM rejected "
        "JOIN run USING (run) JOIN batch USING (run, batch) LEFT JOIN attempt USING (run, batch) "
        "WHERE partner = ? AND cohort_id = ? GROUP BY uid, asked ORDER BY uid, asked",
        (key.partner, key.cohort_id),
    )
    return [Rejection(uid, Action(action), run, utc_ns) for uid, action, run, utc_ns in rows]


def next_place(connection: sqlite3.Connection, run: int, operation: Operation) -> int:
    """Return how many uids of an operation are in batches already."""
    (place,) = connection.execute(
        "SELECT coalesce(max(first_uid + uid_count), 0) FROM batch "
        "WHERE run = ? AND leg = ? AND parent IS NULL",
        (run, operation.value),
    ).fetchone()
    return int(place)


class PlanStore(Store):
    """The plans of a workspace's mirrors."""

    enter = in_transaction(enter_plan)
    plan_of = in_transaction(plan_of)
    open_plan = in_transaction(open_plan)
    overtaken_by = by_reader(overtaken_by)
    set_generation = in_transaction(set_generation)
    seal = in_transaction(seal)
    seals = in_transaction(seals)
    close = in_transaction(close_plan)
    last_mirror = by_reader(last_mirror)
    is_partial = by_reader(is_partial)
    resent_through = by_reader(resent_through)
    rejections = by_reader(rejections)
    next_place = in_transaction(next_place)
