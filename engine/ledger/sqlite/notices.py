"""Who was told what, which `after` command has succeeded, and what metrics count.

Each function runs on a connection, inside its caller's transaction.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Any

from engine.ledger.notice_records import GuardState, MetricCount, ToldProblem
from engine.ledger.sqlite.store import Store, in_transaction


def told_problems(connection: sqlite3.Connection, partner: str) -> list[ToldProblem]:
    """Return the problems that recipients were told of, and that last."""
    rows = connection.execute(
        "SELECT cohort, recipient, problem FROM told_problem WHERE partner = ?", (partner,)
    )
    return [ToldProblem(*row) for row in rows]


def replace_told(
    connection: sqlite3.Connection,
    partner: str,
    recipient: str,
    cohorts: Iterable[str],
    problems: Iterable[ToldProblem],
) -> None:
    """Replace the problems of `cohorts` that a recipient was told of."""
    connection.executemany(
        "DELETE FROM told_problem WHERE partner = ? AND recipient = ? AND cohort = ?",
        [(partner, recipient, cohort) for cohort in cohorts],
    )
    connection.executemany(
        "INSERT INTO told_problem (partner, cohort, recipient, problem) VALUES (?, ?, ?, ?)",
        [(partner, *astuple(each)) for each in problems],
    )


def last_successes(connection: sqlite3.Connection, partner: str) -> dict[str, int]:
    """Return when each cohort last ended with exit status 0, by its id; in ns since 1970."""
    return dict(
        connection.execute(
            "SELECT cohort_id, max(finished_utc_ns) FROM ("
            " SELECT cohort_id, finished_utc_ns FROM synced_cohort"
            " WHERE partner = ?1 AND exit_status = 0"
            " UNION ALL"
            " SELECT cohort_id, finished_utc_ns FROM run"
            " WHERE partner = ?1 AND exit_status = 0 AND status = 'finished'"
            ") WHERE finished_utc_ns IS NOT NULL GROUP BY cohort_id",
            (partner,),
        )
    )


def last_guards(connection: sqlite3.Connection, partner: str) -> dict[str, list[GuardState]]:
    """Return what each guard said of the last plan of each mirrored cohort, by its id."""
    rows = connection.execute(
        "SELECT cohort_id, verdicts FROM plan JOIN run USING (run) WHERE run IN ("
        " SELECT max(run) FROM plan JOIN run USING (run)"
        " WHERE partner = ? AND NOT is_shadow GROUP BY cohort_id)",
        (partner,),
    )
    return {
        cohort_id: [_guard_state(each) for each in json.loads(text)] for cohort_id, text in rows
    }


def _guard_state(found: Mapping[str, Any]) -> GuardState:
    limit = found.get("limit")  # A plan of an earlier version has neither.
    value = None if limit is None else found.get("count")
    return GuardState(found["guard"], found["verdict"] == "blocks", value, limit)


def last_finished_run(connection: sqlite3.Connection, partner: str, cohort_id: str) -> str | None:
    """Return the name of the last run of a cohort that finished; None if there is none."""
    row = connection.execute(
        "SELECT name FROM run WHERE partner = ? AND cohort_id = ? AND status = 'finished' "
        "ORDER BY run DESC LIMIT 1",
        (partner, cohort_id),
    ).fetchone()
    return row and str(row[0])


def followed_run(connection: sqlite3.Connection, partner: str, cohort: str) -> str | None:
    """Return the last run of a cohort after which its `after` command succeeded."""
    row = connection.execute(
        "SELECT run FROM followed_up WHERE partner = ? AND cohort = ?", (partner, cohort)
    ).fetchone()
    return row and str(row[0])


def record_followed(connection: sqlite3.Connection, partner: str, cohort: str, run: str) -> None:
    """Record that the `after` command of a cohort has succeeded after a run."""
    connection.execute(
        "INSERT OR REPLACE INTO followed_up (partner, cohort, run) VALUES (?, ?, ?)",
        (partner, cohort, run),
    )


def metric_counts(connection: sqlite3.Connection) -> list[MetricCount]:
    """Return what metrics count over all syncs."""
    rows = connection.execute("SELECT name, labels, value FROM metric_count")
    return [MetricCount(*row) for row in rows]


def add_metric_counts(connection: sqlite3.Connection, counts: Iterable[MetricCount]) -> None:
    """Add the counts of one process to those of earlier ones."""
    connection.executemany(
        "INSERT INTO metric_count (name, labels, value) VALUES (?, ?, ?) "
        "ON CONFLICT (name, labels) DO UPDATE SET value = value + excluded.value",
        map(astuple, counts),
    )


class NoticeStore(Store):
    """The notices of a workspace."""

    told = in_transaction(told_problems)
    replace_told = in_transaction(replace_told)
    last_successes = in_transaction(last_successes)
    last_guards = in_transaction(last_guards)
    last_finished_run = in_transaction(last_finished_run)
    followed_run = in_transaction(followed_run)
    record_followed = in_transaction(record_followed)
    counts = in_transaction(metric_counts)
    add_counts = in_transaction(add_metric_counts)
