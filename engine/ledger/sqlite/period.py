"""What happened in a period, counted by SQL: a ledger may hold millions of attempts."""

import sqlite3
from collections.abc import Iterator, Sequence

from engine.ledger.period_records import MemberCount, ReasonCount, RequestCount, SendingPeriod
from engine.ledger.run_records import RejectRecord, RunEntry
from engine.ledger.sqlite.history import entries

MOST_REASONS = 50
"""Reasons that are returned of each kind and run, the most frequent first."""


class PeriodHistory:
    """The runs of a period, and counts over them.

    Its methods block, and only one thread may use the connection at a time. A run is named by its
    number.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def runs_since(self, utc_ns: int) -> list[RunEntry]:
        """Return the runs that began or ended at `utc_ns` or later, or did not end, by start."""
        return entries(
            self._connection,
            "WHERE started_utc_ns >= ?1 OR finished_utc_ns >= ?1 OR status = 'running' "
            "ORDER BY started_utc_ns, run",
            (utc_ns,),
        )

    def requests(
        self, run: int, since_utc_ns: int, until_utc_ns: int, interval_ns: int
    ) -> Iterator[RequestCount]:
        """Yield the counts of the requests that a run sent in the period, of `interval_ns` each."""
        for row in self._connection.execute(
            _REQUESTS, (run, since_utc_ns, until_utc_ns, interval_ns)
        ):
            yield RequestCount(*row)

    def sending(self, run: int) -> Iterator[SendingPeriod]:
        """Yield when each process has sent the requests of a run, also outside the period."""
        for row in self._connection.execute(_SENDING, (run,)):
            yield SendingPeriod(*row)

    def reasons(self, run: int) -> Iterator[ReasonCount]:
        """Yield the counts of a run's rejected uids and invalid rows, by their reasons."""
        for query in (_REJECTED, _INVALID):
            rows = self._connection.execute(query, (run, MOST_REASONS))
            for kind, reason, count, *request_ids in rows:
                found = sorted({each for each in request_ids if each})
                yield ReasonCount(kind, reason, count, tuple(found))

    def first_rejected(self, run: int, most: int) -> list[RejectRecord]:
        """Return the first rejected uids of a run."""
        rows = self._connection.execute(_FIRST_REJECTED, (run, most))
        return [RejectRecord(*row) for row in rows]

    def last_name(self, partner: str, cohort_id: str) -> str | None:
        """Return the name of a cohort in its last run; None if it has no run."""
        row: tuple[str] | None = self._connection.execute(
            "SELECT cohort_name FROM run WHERE partner = ? AND cohort_id = ? "
            "ORDER BY run DESC LIMIT 1",
            (partner, cohort_id),
        ).fetchone()
        return row and row[0]

    def members_since(self, utc_ns: int) -> Sequence[MemberCount]:
        """Return the snapshots made at `utc_ns` or later, and each cohort's last one.

        They are in order, cohort by cohort; those of shadow mirrors are left out.
        """
        return [MemberCount(*row) for row in self._connection.execute(_MEMBERS, (utc_ns,))]


# Two significant digits are enough for percentiles, and bound the number of groups.
_REQUESTS = """
WITH sent AS (
  SELECT sent_utc_ns / ?4 AS interval, outcome, http_status,
         iif(http_status IS NULL, NULL, max(0, ended_utc_ns - sent_utc_ns) / 1000000) AS ms
  FROM attempt WHERE run = ?1 AND sent_utc_ns >= ?2 AND sent_utc_ns < ?3
)
SELECT interval, outcome, http_status,
       CASE WHEN ms < 100 THEN ms WHEN ms < 1000 THEN ms / 10 * 10
            WHEN ms < 10000 THEN ms / 100 * 100 ELSE ms / 1000 * 1000 END AS milliseconds,
       count(*)
FROM sent GROUP BY 1, 2, 3, 4
"""

_SENDING = """
SELECT min(sent_utc_ns), max(sent_utc_ns), requests, per_seconds, hours
FROM attempt JOIN sitting USING (run, sitting)
WHERE run = ?1 AND sent_utc_ns IS NOT NULL GROUP BY run, sitting
"""

# `rejected.reason` may quote a uid; the batch's reason does not.
_REJECTED = """
SELECT 'rejected', coalesce(b.reason, 'rejected') AS reason, count(*) AS count,
       min(request_id), max(request_id)
FROM rejected JOIN batch AS b USING (run, batch)
WHERE run = ?1 GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT ?2
"""

_INVALID = """
SELECT 'invalid', reason, sum(count) AS count
FROM skipped WHERE run = ?1 AND reason NOT LIKE 'blank%' AND reason <> 'excluded'
GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT ?2
"""

_FIRST_REJECTED = """
SELECT 'rejected', file, record, 1, reason, uid, request_id
FROM rejected WHERE run = ?1 ORDER BY batch LIMIT ?2
"""

_MEMBERS = """
SELECT partner, cohort_id,
       (SELECT cohort_name FROM run WHERE (run.partner, run.cohort_id) = (g.partner, g.cohort_id)
        ORDER BY run DESC LIMIT 1),
       made_utc_ns, members, unknown
FROM generation AS g WHERE NOT is_shadow AND (made_utc_ns >= ? OR generation = (
  SELECT max(generation) FROM generation AS l
  WHERE NOT l.is_shadow AND (l.partner, l.cohort_id) = (g.partner, g.cohort_id)))
ORDER BY partner, cohort_id, generation
"""
