"""Why one uid is in a mirrored cohort, or is not: what was sent of it last, and what came back."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import LedgerError
from engine.ledger.sqlite.runs import unrecorded_pushes
from engine.model.cohort import Action, CohortKey, Operation
from engine.report.accounts import SCHEMA_VERSION, timestamp
from engine.snapshot.file_format import look_up
from engine.snapshot.operation_uids import kept_uids, position_of
from engine.snapshot.records import UidState
from engine.storage.paths import operation_path, plan_folder, snapshot_folder

_MEMBERSHIP = {
    UidState.IN: "in",
    UidState.MAY_BE_IN: "unknown",
    UidState.OUT: "out",
    UidState.MAY_BE_OUT: "unknown",
}


def _membership_by(attempt: dict[str, Any]) -> str:
    """Say what the last attempt has led to."""
    if attempt["outcome"] != "accepted":
        return "unknown"
    return "in" if attempt["action"] == Action.ADD.value else "out"


@dataclass(frozen=True, slots=True)
class _Run:
    number: int
    name: str
    started_utc_ns: int


_SENT_AFTER = "EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = run.run AND a.id > ?)"


class Inquiry:
    """Looks one uid up; the ledger is only read, so that a run under way is not disturbed."""

    def __init__(self, ledger: sqlite3.Connection, folder: Path, key: CohortKey, uid: str) -> None:
        """`ledger` gives rows by name; `folder` is where it stands."""
        self._ledger = ledger
        self._folder = folder
        self._key = key
        self._uid = uid
        self._names = (key.partner, key.cohort_id)

    @property
    def knows_cohort(self) -> bool:
        """Whether the ledger has heard of the cohort."""
        found = self._ledger.execute(
            "SELECT 1 FROM run WHERE partner = ?1 AND cohort_id = ?2 UNION ALL "
            "SELECT 1 FROM generation WHERE partner = ?1 AND cohort_id = ?2 LIMIT 1",
            self._names,
        ).fetchone()
        return found is not None

    def answer(self) -> dict[str, Any]:
        """Return all that is known, as plain values."""
        generation = self._ledger.execute(
            "SELECT generation, file FROM generation WHERE partner = ? AND cohort_id = ? "
            "AND NOT is_shadow ORDER BY generation DESC LIMIT 1",
            self._names,
        ).fetchone()
        known = self._look_up(generation) if generation else None
        state, run = known or (None, None)
        # What the snapshot has not heard of yet was sent later than all that it knows.
        since = next(self._traces(self._unfolded()), None)
        if since is not None:
            membership = _membership_by(since)
        elif state is not None:
            membership = _MEMBERSHIP[state]
            since = next(self._traces(self._runs("run.run = ?", run)), None)
        elif generation:
            traces = list(self._traces(self._runs(_SENT_AFTER, self._told_through())))
            since = next(iter(traces), None)
            membership = self._membership_of_absent(traces)
        else:
            membership = "not mirrored"
        return {
            "schema_version": SCHEMA_VERSION,
            "uid": self._uid,
            "cohort_id": self._key.cohort_id,
            "membership": membership,
            "state": state.name.lower() if state else None,
            "generation": generation["generation"] if generation else None,
            "since": since or self._since(generation, run),
            "last_export": self._last_export(),
            "pushed": self._pushed(),
            "rejections": self._rejections(),
        }

    def _told_through(self) -> int:
        """Return the last attempt before a list of the members was taken for all that is known."""
        (last,) = self._ledger.execute(
            "SELECT coalesce(max(last_attempt), 0) FROM generation WHERE partner = ? "
            "AND cohort_id = ? AND NOT is_shadow AND origin IN ('reconcile', 'import')",
            self._names,
        ).fetchone()
        return int(last)

    def _membership_of_absent(self, traces: list[dict[str, Any]]) -> str:
        """Say where a uid is that no snapshot holds."""
        for trace in traces:
            if trace["outcome"] in {"accepted", "unconfirmed", None}:
                # It was added last, and what was known of that has been forgotten.
                return "unknown" if trace["action"] == Action.ADD.value else "out"
        if unrecorded_pushes(self._ledger, self._key):
            return "unknown"  # A push that was not recorded may have added it.
        return "out"

    def _look_up(self, generation: sqlite3.Row) -> tuple[UidState, int] | None:
        if generation["file"] is None:
            raise LedgerError(f"generation {generation['generation']} is no longer kept")
        return look_up(snapshot_folder(self._folder, self._key) / generation["file"], self._uid)

    def _runs(self, condition: str, *values: object) -> Iterator[_Run]:
        """Yield the followed runs of the cohort that have sent something, the latest first."""
        rows = self._ledger.execute(
            "SELECT run.run, name, started_utc_ns FROM run JOIN followed USING (run) "  # noqa: S608 - our own words
            "LEFT JOIN plan USING (run) WHERE partner = ? AND cohort_id = ? "
            f"AND coalesce(is_shadow, 0) = 0 AND {condition} ORDER BY run.run DESC",
            (*self._names, *values),
        ).fetchall()
        for row in rows:
            yield _Run(*row)

    def _unfolded(self) -> Iterator[_Run]:
        return self._runs("attempt < (SELECT max(id) FROM attempt AS a WHERE a.run = run.run)")

    def _traces(self, runs: Iterator[_Run]) -> Iterator[dict[str, Any]]:
        """Yield what was sent of the uid, by the first of `runs` that sent anything of it."""
        for run in runs:
            folder = plan_folder(self._folder, run.name)
            for operation in Operation:
                for position in kept_uids(folder, operation).positions_of(self._uid):
                    sent = self._sent(run, operation, position)
                    if sent is not None:
                        yield sent

    def _sent(self, run: _Run, operation: Operation, place: int) -> dict[str, Any] | None:
        """Return the last attempt of the batch that held this place; None if there was none."""
        row = self._ledger.execute(
            "SELECT batch, state, attempt, outcome, http_status, request_id, "
            "coalesce(sent_utc_ns, intended_utc_ns) AS at, "
            "coalesce(a.reason, b.reason) AS reason FROM batch AS b JOIN attempt AS a "
            "USING (run, batch) WHERE run = ? AND leg = ? AND first_uid <= ? "
            "AND first_uid + uid_count > ? AND state <> 'split' ORDER BY attempt DESC LIMIT 1",
            (run.number, operation.value, place, place),
        ).fetchone()
        if row is None:
            return None
        return {
            "run": run.name,
            "action": operation.action.value,
            "batch": row["batch"],
            "attempt": row["attempt"],
            "outcome": row["outcome"],
            "at": timestamp(row["at"]),
            "http_status": row["http_status"],
            "request_id": row["request_id"],
            "reason": row["reason"],
        }

    def _since(self, generation: sqlite3.Row | None, run: int | None) -> dict[str, Any] | None:
        """Return what is left to say where the uid stands in no run's files.

        They are no longer kept, or it was told by a list from elsewhere.
        """
        for found in self._runs("run.run = ?", run) if run else ():
            return {"run": found.name, "at": timestamp(found.started_utc_ns)}
        if generation is None or (run is not None and run > 0):
            return None
        told = self._ledger.execute(
            "SELECT generation, origin, made_utc_ns FROM generation WHERE partner = ? "
            "AND cohort_id = ? AND NOT is_shadow AND run IS NULL ORDER BY generation DESC LIMIT 1",
            self._names,
        ).fetchone()
        return told and {
            "generation": told["generation"],
            "origin": told["origin"],
            "at": timestamp(told["made_utc_ns"]),
        }

    def _last_export(self) -> dict[str, Any] | None:
        """Say whether the last export that was planned had the uid; None if none is known."""
        for run in self._runs("plan.run IS NOT NULL"):
            folder = plan_folder(self._folder, run.name)
            told = {"run": run.name, "at": timestamp(run.started_utc_ns)}
            adds, removes = (
                operation_path(folder, Operation.ADD),
                operation_path(folder, Operation.REMOVE),
            )
            if not (adds.exists() and removes.exists()):
                return {**told, "had_it": None}
            if position_of(adds, self._uid) is not None:
                return {**told, "had_it": True}
            if position_of(removes, self._uid) is not None:
                return {**told, "had_it": False}
            return {**told, "had_it": self._was_unchanged(run)}
        return None

    def _pushed(self) -> dict[str, Any] | None:
        """Return the last run that sent uids which nobody has kept, and how many there were."""
        names = unrecorded_pushes(self._ledger, self._key)
        if not names:
            return None
        row = self._ledger.execute(
            "SELECT name, action, status, started_utc_ns FROM run WHERE name = ?", (names[-1],)
        ).fetchone()
        return {
            "run": row["name"],
            "at": timestamp(row["started_utc_ns"]),
            "action": row["action"],
            "status": row["status"],
            "runs": len(names),
        }

    def _was_unchanged(self, run: _Run) -> bool | None:
        """Say whether a uid that a plan leaves alone was in: then the export had it."""
        row = self._ledger.execute(
            "SELECT plan.generation, file FROM plan LEFT JOIN generation AS g "
            "ON g.generation = plan.generation AND partner = ? AND cohort_id = ? "
            "AND NOT g.is_shadow WHERE plan.run = ?",
            (*self._names, run.number),
        ).fetchone()
        if row["generation"] is None:
            return False
        if row["file"] is None:
            return None
        known = self._look_up(row)
        return known is not None and known[0] is UidState.IN

    def _rejections(self) -> list[dict[str, Any]]:
        rows = self._ledger.execute(
            "SELECT name, rejected.reason, rejected.request_id, "
            "coalesce(max(ended_utc_ns), started_utc_ns) AS at FROM rejected "
            "JOIN run USING (run) LEFT JOIN attempt USING (run, batch) "
            "WHERE partner = ? AND cohort_id = ? AND uid = ? GROUP BY run, batch ORDER BY at",
            (*self._names, self._uid),
        )
        return [
            {
                "run": row["name"],
                "at": timestamp(row["at"]),
                "reason": row["reason"],
                "request_id": row["request_id"],
            }
            for row in rows
        ]
