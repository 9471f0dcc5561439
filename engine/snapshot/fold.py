"""The next snapshot: the last one, with the later outcomes of a run's batches."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.snapshot.file_format import SNAPSHOT, describe, rows_of
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.records import Snapshot, UidState
from engine.storage.capacity import affordable, shares_for
from engine.storage.duckdb_session import Interruption, open_session
from engine.storage.files import work_folder
from engine.storage.paths import TemporaryName, TemporaryPurpose
from engine.storage.settings import PlanningSettings
from engine.storage.uid_parquet import open_writer, schema_of, write_batches

_STATES = {
    (Operation.ADD, True): UidState.IN,
    (Operation.ADD, False): UidState.MAY_BE_IN,
    (Operation.REMOVE, True): UidState.OUT,
    (Operation.REMOVE, False): UidState.MAY_BE_OUT,
}
"""An operation that is sent again changes nothing: members remain members."""

_CHANGED = schema_of(uid=pa.binary(), state=pa.uint8())

# A uid may be in an export twice: of two outcomes the certain one counts. An operation that may
# have been applied has changed nothing if the uid was already in that state. It still counts as
# sent, since an operation that reverses it has to wait.
_NEXT = f"""
WITH b AS (SELECT uid, state, run FROM {{base}}),
     c AS (SELECT uid, min(state) AS state FROM {{rows}} GROUP BY uid),
     n AS (
       SELECT coalesce(c.uid, b.uid) AS uid, b.state AS was, b.run AS was_run, c.state AS becomes
       FROM b FULL OUTER JOIN c ON b.uid = c.uid
     )
SELECT uid, (CASE
         WHEN becomes IS NULL THEN was
         WHEN becomes = {UidState.MAY_BE_IN:d} AND was = {UidState.IN:d} THEN was
         WHEN becomes = {UidState.MAY_BE_OUT:d} AND coalesce(was, {UidState.OUT:d})
           = {UidState.OUT:d} THEN {UidState.OUT:d}
         ELSE becomes END)::UTINYINT AS state,
       (CASE WHEN becomes IS NULL THEN was_run ELSE {{run}} END)::INTEGER AS run FROM n
WHERE state <> {UidState.OUT:d} OR run IN ({{recent}})
"""  # noqa: S608 - our own words

_ADOPTED = f"""
WITH b AS (SELECT uid, state, run FROM {{base}}),
     s AS (SELECT DISTINCT uid FROM {{rows}})
SELECT coalesce(b.uid, s.uid) AS uid,
       (CASE WHEN b.uid IS NULL THEN {{state}}
             WHEN b.state = {UidState.OUT:d} AND s.uid IS NOT NULL THEN {UidState.MAY_BE_OUT:d}
             ELSE b.state END)::UTINYINT AS state,
       coalesce(b.run, 0)::INTEGER AS run
FROM b FULL OUTER JOIN s ON b.uid = s.uid
"""  # noqa: S608 - our own words


def fold(  # noqa: PLR0913 - what was, what happened, and where to
    base: Snapshot | None,
    operations: Sequence[OperationUids],
    outcomes: Sequence[RangeOutcome],
    *,
    run: int,
    recent_runs: Sequence[int],
    target: Path,
    settings: PlanningSettings,
    interruption: Interruption | None = None,
) -> Snapshot:
    """Write the generation after `base` to `target`.

    `outcomes` are disjoint. Uids without one are unchanged. A uid that is out is kept as long as
    its run is among `recent_runs`. The same arguments give the same rows. Raises as `open_session`
    does, and `LedgerError` if uids that have an outcome are no longer kept.
    """
    with work_folder(target.parent, TemporaryPurpose.FOLD) as folder:
        changed = folder / TemporaryName.CHANGES
        states = (rows for uids in operations for rows in _changed(uids, outcomes))
        write_batches(changed, _CHANGED, states)
        count = sum(each.uid_count for each in outcomes)
        recent = ", ".join(str(each) for each in (-1, *recent_runs))
        query = partial(_NEXT.format, run=run, recent=recent)
        return _joined(query, base, changed, count, target, settings, interruption)


def adopt(  # noqa: PLR0913 - both sides, what becomes of the new ones, and where to
    base: Snapshot | None,
    staged: Path,
    uids: int,
    state: UidState,
    *,
    target: Path,
    settings: PlanningSettings,
    interruption: Interruption | None = None,
) -> Snapshot:
    """Write `base` and, in `state`, each of a staged file's `uids` that it does not hold.

    The added uids have the run 0. A uid that was out becomes unknown, and keeps its run: a late
    remove may still be applied. Raises as `open_session` does.
    """
    query = partial(_ADOPTED.format, state=int(state))
    return _joined(query, base, staged, uids, target, settings, interruption)


def _joined(  # noqa: PLR0913, PLR0917 - both sides, how they are joined, and where to
    query: Callable[..., str],
    base: Snapshot | None,
    path: Path,
    uids: int,
    target: Path,
    settings: PlanningSettings,
    interruption: Interruption | None,
) -> Snapshot:
    """Write `base` joined with the file at `path`, of `uids` uids, to `target`, by shares."""
    settings = affordable(settings)
    shares = shares_for(uids, path.stat().st_size, settings)
    with (
        open_session(settings, path.parent, interruption or Interruption()) as session,
        open_writer(target, SNAPSHOT, compression="zstd") as writer,
    ):
        for which in range(shares):
            rows = session.share(path, shares, which)
            for found in session.rows(query(base=rows_of(base, session, shares, which), rows=rows)):
                writer.write(found.cast(SNAPSHOT))
    return describe(target)


def _changed(uids: OperationUids, outcomes: Sequence[RangeOutcome]) -> Iterator[pa.RecordBatch]:
    """Yield the uids of an operation that may have changed, in their new state."""
    for changed, is_accepted in uids.with_outcome(outcomes):
        states = np.where(
            is_accepted, _STATES[uids.operation, True], _STATES[uids.operation, False]
        )
        yield pa.record_batch([changed, pa.array(states.astype(np.uint8))], schema=_CHANGED)
