"""Queries for the old runs of a cohort, and for those that a later run needs.

Their parameters: `partner` and `cohort`; `ended` and `rejected`, the bounds in ns since 1970;
`dropped`, the snapshots that are no longer kept, and `old`, the runs that `OLD` gives, as JSON.
"""

from engine.ledger.records import MIRROR
from engine.model.status import RESUMABLE, RunStatus

_MINE = "run.partner = :partner AND run.cohort_id = :cohort"

OLD = f"""
SELECT run, name FROM run WHERE {_MINE} AND status <> 'running'
AND max(started_utc_ns, coalesce(finished_utc_ns, 0)) < :ended AND NOT EXISTS (
  SELECT 1 FROM sitting AS s WHERE s.run = run.run
  AND max(s.started_utc_ns, coalesce(s.ended_utc_ns, 0)) >= :ended
)
"""  # noqa: S608 - our own words

_UNFINISHED = ", ".join(f"'{status}'" for status in RESUMABLE)
_SENT = """EXISTS (
  SELECT 1 FROM batch WHERE batch.run = run.run AND (state = 'accepted' OR may_have_been_applied)
)"""
_RESENT = """plan.resend > 0 AND plan.resend = (
  SELECT coalesce(sum(uid_count), 0) FROM batch
  WHERE batch.run = run.run AND leg = 'resend' AND state IN ('accepted', 'rejected')
)"""


def _last(condition: str) -> tuple[str, ...]:
    """Return queries for the last run of a cohort with a condition, and of its shadow."""
    return tuple(
        f"SELECT run FROM run LEFT JOIN plan USING (run) WHERE {_MINE} "  # noqa: S608 - our own words
        f"AND coalesce(plan.is_shadow, 0) = {is_shadow} AND ({condition}) ORDER BY run DESC LIMIT 1"
        for is_shadow in (0, 1)
    )


_HAS_ENDED_WELL = "run.status IN ('finished', 'shadow')"

NEEDED = (
    # The numbers of runs and attempts are not used again.
    "SELECT max(run) FROM run",
    "SELECT run FROM attempt WHERE id = (SELECT max(id) FROM attempt)",
    # A push that can be resumed: no later run has sent anything to the cohort.
    f"""
    SELECT run FROM run WHERE {_MINE} AND action <> '{MIRROR}' AND status IN ({_UNFINISHED})
    AND NOT EXISTS (
      SELECT 1 FROM run AS later WHERE later.partner = :partner AND later.cohort_id = :cohort
      AND later.run > run.run
      AND EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = later.run)
    )
    """,  # noqa: S608 - our own words
    # What a snapshot does not include yet, or was sent after the oldest one that is kept.
    f"""
    SELECT run FROM run JOIN followed AS f USING (run) WHERE {_MINE}
    AND (SELECT max(id) FROM attempt AS a WHERE a.run = run.run) > min(f.attempt, coalesce((
      SELECT min(last_attempt) FROM generation AS g WHERE g.partner = :partner
      AND g.cohort_id = :cohort AND NOT is_shadow AND file IS NOT NULL
      AND generation NOT IN (SELECT value FROM json_each(:dropped))
    ), 0))
    """,  # noqa: S608 - our own words
    # What produced a snapshot that is kept.
    """
    SELECT run FROM generation AS g WHERE g.partner = :partner AND g.cohort_id = :cohort
    AND run IS NOT NULL AND file IS NOT NULL
    AND generation NOT IN (SELECT value FROM json_each(:dropped))
    """,
    # What the next run compares with: the last mirror, the last push, the last slice of resends.
    *_last(f"plan.run IS NOT NULL AND ({_HAS_ENDED_WELL} OR {_SENT})"),
    *_last(f"plan.run IS NULL AND ({_HAS_ENDED_WELL} OR {_SENT})"),
    *_last(f"plan.exported_utc_ns IS NOT NULL AND ({_HAS_ENDED_WELL} OR {_SENT})"),
    *_last(f"plan.profile <> '{{}}' AND ({_HAS_ENDED_WELL} OR {_SENT})"),
    *_last("run.status = 'finished'"),
    *_last(f"run.status NOT IN ('{RunStatus.PLANNED}', '{RunStatus.SHADOW}')"),
    *_last("plan.run IS NOT NULL"),
    *_last(_RESENT),
    # The last push that no snapshot includes: uids that are in none of them may be members.
    f"""
    SELECT run FROM run WHERE {_MINE} AND run NOT IN (SELECT run FROM followed)
    AND EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = run.run AND a.id > coalesce((
      SELECT max(last_attempt) FROM generation AS g WHERE g.partner = :partner
      AND g.cohort_id = :cohort AND NOT is_shadow AND origin IN ('adopt', 'reconcile')
    ), 0)) ORDER BY run DESC LIMIT 1
    """,  # noqa: S608 - our own words
    # Uids whose membership is unknown: until a snapshot without unknown uids includes them.
    f"""
    SELECT run FROM run WHERE {_MINE} AND run IN (SELECT value FROM json_each(:old)) AND EXISTS (
      SELECT 1 FROM batch WHERE batch.run = run.run AND state = 'open' AND may_have_been_applied
    ) AND NOT (run IN (SELECT run FROM followed) AND EXISTS (
      SELECT 1 FROM generation AS g WHERE g.partner = :partner AND g.cohort_id = :cohort
      AND NOT is_shadow AND unknown = 0 AND generation = (
        SELECT max(generation) FROM generation AS l WHERE l.partner = :partner
        AND l.cohort_id = :cohort AND NOT is_shadow
      )
    ))
    """,  # noqa: S608 - our own words
    # Rejected uids that are not due to be tried again.
    f"""
    SELECT run FROM run WHERE {_MINE} AND run IN (SELECT value FROM json_each(:old))
    AND max(started_utc_ns, coalesce(finished_utc_ns, 0)) >= :rejected
    AND EXISTS (SELECT 1 FROM rejected WHERE rejected.run = run.run)
    """,  # noqa: S608 - our own words
)
"""Each gives runs that are kept, whatever their age."""
