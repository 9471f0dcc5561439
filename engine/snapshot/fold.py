"""The next snapshot: the last one, with the later outcomes of a run's batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.snapshot.file_format import SNAPSHOT, describe, rows_of
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.records import Snapshot, UidState
from engine.storage.capacity import shares_of_file
from engine.storage.duckdb_session import QueryOptions, open_session
from engine.storage.files import work_folder
from engine.storage.paths import TemporaryName, TemporaryPurpose
from engine.storage.uid_hash import WHOLE
from engine.storage.uid_parquet import UIDS, open_writer, schema_of, write_batches
from engine.storage.uid_spool import Spool

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


@dataclass(frozen=True, slots=True)
class RunChanges:
    """What a run has changed: the uids that it keeps, and the outcomes of some of them."""

    run: int
    operations: Sequence[OperationUids]
    outcomes: Sequence[RangeOutcome]
    """Disjoint; uids without an outcome are unchanged."""
    recent_runs: Sequence[int]
    """A uid that is out is kept as long as its run is one of these."""


def fold(
    base: Snapshot | None, changes: RunChanges, target: Path, options: QueryOptions
) -> Snapshot:
    """Write the generation after `base` to `target`; the same arguments give the same rows.

    Raises as `open_session` does, and `LedgerError` if uids that have an outcome are no longer
    kept.
    """
    with work_folder(target.parent, TemporaryPurpose.FOLD) as folder:
        changed = folder / TemporaryName.CHANGES
        states = (rows for uids in changes.operations for rows in _changed(uids, changes.outcomes))
        write_batches(changed, _CHANGED, states)
        recent = ", ".join(str(each) for each in (-1, *changes.recent_runs))
        query = partial(_NEXT.format, run=changes.run, recent=recent)
        return _joined(query, base, changed, target, options)


def adopt(
    base: Snapshot | None, staged: Spool, state: UidState, target: Path, options: QueryOptions
) -> Snapshot:
    """Write `base` and, in `state`, each uid of `staged` that it does not hold.

    The added uids have the run 0. A uid that was out becomes unknown, and keeps its run: a late
    remove may still be applied. Raises as `open_session` does.
    """
    with work_folder(target.parent, TemporaryPurpose.FOLD) as folder:
        path = folder / TemporaryName.LIST
        rows = (pa.record_batch([each["uid"]], schema=UIDS) for each in staged.batches(WHOLE))
        write_batches(path, UIDS, rows)
        return _joined(partial(_ADOPTED.format, state=int(state)), base, path, target, options)


def _joined(
    query: Callable[..., str],
    base: Snapshot | None,
    path: Path,
    target: Path,
    options: QueryOptions,
) -> Snapshot:
    """Write `base` joined with the uids in the file at `path` to `target`, by shares."""
    options = options.affordable()
    shares = shares_of_file(path, options.settings)
    with (
        open_session(options, path.parent) as session,
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
