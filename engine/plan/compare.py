"""Tonight's export against what the API acknowledged, out of core: DuckDB joins, and spills.

Uids are compared as bytes. One outer join yields what differs; how many uids are unchanged, and how
many rows are duplicates among them, follows from the counts, so that no night but the first pays
for finding all duplicates.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from engine.cohort import Action
from engine.plan.planning import literal, planner
from engine.plan.records import Comparison, Leg, Snapshot, Staged, UidState
from engine.plan.settings import PlanningSettings
from engine.plan.staging import write_batches

LEG = pa.schema(
    [
        pa.field("uid", pa.binary(), nullable=False),
        pa.field("was", pa.uint8(), nullable=False),
        pa.field("was_run", pa.int32(), nullable=False),
    ]
)
"""`was` is the uid's `UidState` in the snapshot, 0 if it had none; `was_run` the run of that."""
REJECTIONS = pa.schema(
    [
        pa.field("uid", pa.binary(), nullable=False),
        pa.field("run", pa.int32(), nullable=False),
        pa.field("is_due", pa.bool_(), nullable=False),
    ]
)
"""Uids that the API rejected, in which run last, and whether it is time to try them again."""

_PLAIN, _SUSPECT, _HELD, _KNOWN = range(4)

# A rejection is past once the snapshot knows of a later change.
_LEGS = """
CREATE TEMP TABLE {action} AS
SELECT uid, was, was_run,
  CASE WHEN r.run >= was_run AND NOT r.is_due THEN {known}
       WHEN was IN ({reversed}) AND was_run IN (SELECT run FROM recent) THEN {held}
       WHEN r.run >= was_run THEN {suspect}
       ELSE {plain} END AS kind
FROM ({rows}) LEFT JOIN rejections AS r USING (uid)
"""

_DIFFERENT = """
CREATE TEMP TABLE different AS
SELECT coalesce(e.uid, b.uid) AS uid, e.uid IS NOT NULL AS wanted,
       coalesce(b.state, 0)::UTINYINT AS was, coalesce(b.run, 0)::INTEGER AS was_run
FROM read_parquet(?) AS e FULL OUTER JOIN read_parquet(?) AS b ON e.uid = b.uid
WHERE CASE WHEN e.uid IS NULL THEN b.state <> {out} ELSE b.state IS DISTINCT FROM {inside} END
"""

_WANTED = """
SELECT uid, min(was) AS was, min(was_run) AS was_run FROM different WHERE wanted GROUP BY uid
"""
_UNWANTED = "SELECT uid, was, was_run FROM different WHERE NOT wanted"
_LOST = "SELECT count(*) FROM remove WHERE was = {inside}"
_ALL_DIFFERENT = "CREATE TEMP VIEW different AS SELECT uid FROM read_parquet({staged})"
_FIRST_NIGHT = """
SELECT DISTINCT uid, 0::UTINYINT AS was, 0::INTEGER AS was_run FROM different
"""


def compare(  # noqa: PLR0913 - both sides, where to, and what bears on the order
    staged: Staged,
    base: Snapshot | None,
    folder: Path,
    settings: PlanningSettings,
    *,
    recent_runs: Sequence[int] = (),
    rejections: pa.Table | None = None,
) -> Comparison:
    """Write the legs `adds.parquet` and `removes.parquet`, of schema `LEG`, into `folder`.

    `recent_runs` are those whose requests the far side may not have applied yet; a change that
    reverses one of theirs is held. `rejections` has the schema `REJECTIONS`. Raises as `planner`.
    """
    with planner(settings, folder) as connection:
        _load(connection, recent_runs, rejections)
        if base is None:
            connection.execute(_ALL_DIFFERENT.format(staged=literal(staged.path)))
            differing, wanted, unwanted = staged.uids, _FIRST_NIGHT, _NOTHING
        else:
            connection.execute(
                _DIFFERENT.format(out=int(UidState.OUT), inside=int(UidState.IN)),
                [str(staged.path), str(base.path)],
            )
            differing = _count(connection, "SELECT count(*) FROM different WHERE wanted")
            wanted, unwanted = _WANTED, _UNWANTED
        adds, known = _leg(
            connection, folder, Action.ADD, wanted, (UidState.OUT, UidState.MAY_BE_OUT)
        )
        removes, _ = _leg(
            connection, folder, Action.REMOVE, unwanted, (UidState.IN, UidState.MAY_BE_IN)
        )
        lost = _count(connection, _LOST.format(inside=int(UidState.IN)))
    unchanged = (base.census.members if base else 0) - lost
    distinct = adds.planned + known + unchanged
    duplicate = staged.uids - distinct
    matched = staged.uids - differing
    if not 0 <= matched - unchanged <= duplicate:
        raise RuntimeError(
            f"the comparison does not add up: {staged.uids} uids, {differing} differing, "
            f"{unchanged} unchanged, {duplicate} duplicate"
        )
    return Comparison(adds, removes, unchanged, duplicate, known)


_NOTHING = "SELECT ''::BLOB AS uid, 0::UTINYINT AS was, 0::INTEGER AS was_run WHERE false"


def _load(
    connection: duckdb.DuckDBPyConnection,
    recent_runs: Sequence[int],
    rejections: pa.Table | None,
) -> None:
    connection.execute("CREATE TEMP TABLE recent (run INTEGER)")
    if recent_runs:
        connection.executemany("INSERT INTO recent VALUES (?)", [[run] for run in recent_runs])
    given = REJECTIONS.empty_table() if rejections is None else rejections
    connection.register("given", given)
    connection.execute("CREATE TEMP TABLE rejections AS SELECT uid, run, is_due FROM given")
    connection.unregister("given")


def _leg(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    action: Action,
    rows: str,
    reversed_states: Sequence[UidState],
) -> tuple[Leg, int]:
    """Write one leg; return it, and how many uids were left out as known rejects."""
    connection.execute(
        _LEGS.format(
            action=action.value,
            rows=rows,
            reversed=", ".join(str(int(state)) for state in reversed_states),
            plain=_PLAIN,
            suspect=_SUSPECT,
            held=_HELD,
            known=_KNOWN,
        )
    )
    counts = dict(
        connection.execute(f"SELECT kind, count(*) FROM {action.value} GROUP BY kind").fetchall()  # noqa: S608 - our own name
    )
    path = folder / f"{action.value}s.parquet"
    write_batches(
        path,
        LEG,
        (
            batch.cast(LEG)
            for kind in (_PLAIN, _SUSPECT, _HELD)
            if counts.get(kind)
            for batch in connection.sql(
                f"SELECT uid, was, was_run FROM {action.value} WHERE kind = {kind}"  # noqa: S608 - our own name
            ).to_arrow_reader(65_536)
        ),
    )
    leg = Leg(path, *(counts.get(kind, 0) for kind in (_PLAIN, _SUSPECT, _HELD)))
    return leg, counts.get(_KNOWN, 0)


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0
