"""The next snapshot: the last one, and what became of a mirror's batches since."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.cohort import Action
from engine.plan.files import put_in_place
from engine.plan.planning import literal, planner
from engine.plan.records import Snapshot, UidState
from engine.plan.settings import PlanningSettings
from engine.plan.snapshot_file import SNAPSHOT, describe
from engine.plan.staging import read_batches, write_batches

FATES = pa.schema(
    [
        pa.field("action", pa.string(), nullable=False),
        pa.field("first_uid", pa.int64(), nullable=False),
        pa.field("uid_count", pa.int64(), nullable=False),
        pa.field("is_accepted", pa.bool_(), nullable=False),
    ]
)
"""Places of a leg that follow each other: accepted, or perhaps applied. Ascending, disjoint."""

_STATES = {
    (Action.ADD, True): UidState.IN,
    (Action.ADD, False): UidState.MAY_BE_IN,
    (Action.REMOVE, True): UidState.OUT,
    (Action.REMOVE, False): UidState.MAY_BE_OUT,
}

# The rows that changed are the few; they are what the join holds in memory.
_NEXT = """
COPY (
  SELECT b.uid, b.state, b.run FROM {base} AS b ANTI JOIN read_parquet({changed}) AS c
  ON b.uid = c.uid WHERE b.state <> {out} OR b.run IN ({recent})
  UNION ALL
  SELECT uid, state, run FROM read_parquet({changed})
) TO {target} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)
"""


_ADOPTED = """
COPY (
  SELECT coalesce(b.uid, s.uid) AS uid,
         (CASE WHEN b.uid IS NULL THEN {state}
               WHEN b.state = {out} AND s.uid IS NOT NULL THEN {may_be_out}
               ELSE b.state END)::UTINYINT AS state,
         coalesce(b.run, 0)::INTEGER AS run
  FROM {base} AS b FULL OUTER JOIN (SELECT DISTINCT uid FROM read_parquet({staged})) AS s
  ON b.uid = s.uid
) TO {target} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)
"""
_NO_ROWS = "(SELECT ''::BLOB AS uid, 0::UTINYINT AS state, 0::INTEGER AS run WHERE false)"


def fold(  # noqa: PLR0913 - what was, what happened, and where to
    base: Snapshot | None,
    adds: Path,
    removes: Path,
    fates: pa.Table,
    *,
    run: int,
    recent_runs: Sequence[int],
    target: Path,
    settings: PlanningSettings,
) -> Snapshot:
    """Write the generation after `base` to `target`; `fates` has the schema `FATES`.

    Places without a fate stay as they were. A uid that is out is kept as long as its run is among
    `recent_runs`. The same arguments give the same rows. Raises as `planner` does.
    """
    changed = target.with_name(f"{target.name}.changed")
    part = target.with_name(f"{target.name}.part")
    legs = {Action.ADD: adds, Action.REMOVE: removes}
    try:
        write_batches(
            changed,
            SNAPSHOT,
            (batch for action, leg in legs.items() for batch in _changed(action, leg, fates, run)),
        )
        query = _NEXT.format(
            base=_rows_of(base),
            changed=literal(changed),
            target=literal(part),
            out=int(UidState.OUT),
            recent=", ".join(str(each) for each in (-1, *recent_runs)),
        )
        _copy(query, part, target, settings)
    finally:
        changed.unlink(missing_ok=True)
    return describe(target)


def adopt(
    base: Snapshot | None,
    staged: Path,
    state: UidState,
    *,
    target: Path,
    settings: PlanningSettings,
) -> Snapshot:
    """Write `base` and, in `state`, each uid of a staged file that it does not hold.

    One that was out is unknown from now on, and keeps its run: a late remove may still come.

    Raises as `planner` does.
    """
    part = target.with_name(f"{target.name}.part")
    query = _ADOPTED.format(
        base=_rows_of(base),
        staged=literal(staged),
        state=int(state),
        out=int(UidState.OUT),
        may_be_out=int(UidState.MAY_BE_OUT),
        target=literal(part),
    )
    _copy(query, part, target, settings)
    return describe(target)


def _rows_of(base: Snapshot | None) -> str:
    return f"read_parquet({literal(base.path)})" if base else _NO_ROWS


def _copy(query: str, part: Path, target: Path, settings: PlanningSettings) -> None:
    try:
        # Made by us, so that nobody else ever may read it.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with planner(settings, target.parent) as connection:
            connection.execute(query)
        put_in_place(part, target)
    finally:
        part.unlink(missing_ok=True)


def _changed(action: Action, leg: Path, fates: pa.Table, run: int) -> Iterator[pa.RecordBatch]:
    """Yield the uids of a leg that may have changed, in the state that they are in now."""
    mine = fates.filter(pc.equal(fates["action"], action.value)).sort_by("first_uid")
    firsts = mine["first_uid"].to_numpy()
    ends = firsts + mine["uid_count"].to_numpy()
    states = np.where(
        mine["is_accepted"].to_numpy(), _STATES[action, True], _STATES[action, False]
    ).astype(np.uint8)
    if not len(firsts):
        return
    start = 0
    for batch in read_batches(leg, ["uid"]):
        places = np.arange(start, start + len(batch))
        start += len(batch)
        which = np.searchsorted(firsts, places, side="right") - 1
        has_fate = (which >= 0) & (places < ends[which])
        if not has_fate.any():
            continue
        uids = batch["uid"].filter(pa.array(has_fate))
        state = pa.array(states[which[has_fate]])
        runs = pa.array(np.full(len(uids), run, np.int32))
        yield pa.record_batch([uids, state, runs], schema=SNAPSHOT)
