"""The next snapshot: the last one, and what became of a run's batches since."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import LedgerError
from engine.model.cohort import Operation
from engine.snapshot.file_format import SNAPSHOT, describe
from engine.snapshot.records import Snapshot, UidState
from engine.storage.capacity import affordable, shares_for
from engine.storage.duckdb_session import Interruption, Session, open_session
from engine.storage.files import work_folder
from engine.storage.paths import TemporaryName, TemporaryPurpose
from engine.storage.settings import PlanningSettings
from engine.storage.uid_parquet import LOST, open_writer, read_batches, write_batches

RANGE_OUTCOMES = pa.schema(
    [
        pa.field("leg", pa.string(), nullable=False),
        pa.field("first_uid", pa.int64(), nullable=False),
        pa.field("uid_count", pa.int64(), nullable=False),
        pa.field("is_accepted", pa.bool_(), nullable=False),
    ]
)
"""Ranges of places in an operation: accepted, or perhaps applied. Ascending, disjoint."""

OperationFiles = Mapping[int, Path]
"""The files that hold an operation's uids, by the place of the first uid of each."""

_STATES = {
    (Operation.ADD, True): UidState.IN,
    (Operation.ADD, False): UidState.MAY_BE_IN,
    (Operation.REMOVE, True): UidState.OUT,
    (Operation.REMOVE, False): UidState.MAY_BE_OUT,
}
"""An operation that is sent again changes nothing: who was in stays in."""

_CHANGED = pa.schema([pa.field("uid", pa.binary(), nullable=False), pa.field("state", pa.uint8())])

# A uid may stand in an export twice: of two outcomes the certain one counts. What may have been
# applied to a uid that was in already, or out, has changed nothing; that it was sent counts all the
# same, since what reverses it has to wait.
_NEXT = f"""
WITH b AS (SELECT uid, state, run FROM {{base}}),
     c AS (SELECT uid, min(state) AS state FROM {{changed}} GROUP BY uid),
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
     s AS (SELECT DISTINCT uid FROM {{staged}})
SELECT coalesce(b.uid, s.uid) AS uid,
       (CASE WHEN b.uid IS NULL THEN {{state}}
             WHEN b.state = {UidState.OUT:d} AND s.uid IS NOT NULL THEN {UidState.MAY_BE_OUT:d}
             ELSE b.state END)::UTINYINT AS state,
       coalesce(b.run, 0)::INTEGER AS run
FROM b FULL OUTER JOIN s ON b.uid = s.uid
"""  # noqa: S608 - our own words
_NO_ROWS = "(SELECT ''::BLOB AS uid, 0::UTINYINT AS state, 0::INTEGER AS run WHERE false)"


def fold(  # noqa: PLR0913 - what was, what happened, and where to
    base: Snapshot | None,
    operations: Mapping[Operation, OperationFiles],
    range_outcomes: pa.Table,
    *,
    run: int,
    recent_runs: Sequence[int],
    target: Path,
    settings: PlanningSettings,
    interruption: Interruption | None = None,
) -> Snapshot:
    """Write the generation after `base` to `target`.

    `range_outcomes` has the schema `RANGE_OUTCOMES`; places without an outcome stay as they were.
    A uid that is out is kept as long as its run is among `recent_runs`. The same arguments give the
    same rows. Raises as `open_session` does.
    """
    settings = affordable(settings)
    with work_folder(target.parent, TemporaryPurpose.FOLD) as folder:
        changed = folder / TemporaryName.CHANGES
        write_batches(
            changed,
            _CHANGED,
            (
                rows
                for operation, files in operations.items()
                for rows in _changed(operation, files, range_outcomes)
            ),
        )
        recent = ", ".join(str(each) for each in (-1, *recent_runs))
        changes = sum(range_outcomes["uid_count"].to_pylist())
        shares = shares_for(changes, changed.stat().st_size, settings)

        def query(session: Session, which: int) -> str:
            return _NEXT.format(
                base=session.share(base.path, shares, which) if base else _NO_ROWS,
                changed=session.share(changed, shares, which),
                run=run,
                recent=recent,
            )

        with open_session(settings, folder, interruption or Interruption()) as session:
            _write(target, session, [query(session, which) for which in range(shares)])
    return describe(target)


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

    Those have the run 0. One that was out is unknown from now on, and keeps its run: a late remove
    may still come.
    Raises as `open_session` does.
    """
    settings = affordable(settings)
    shares = shares_for(uids, staged.stat().st_size, settings)

    def query(session: Session, which: int) -> str:
        return _ADOPTED.format(
            base=session.share(base.path, shares, which) if base else _NO_ROWS,
            staged=session.share(staged, shares, which),
            state=int(state),
        )

    with open_session(settings, staged.parent, interruption or Interruption()) as session:
        _write(target, session, [query(session, which) for which in range(shares)])
    return describe(target)


def _write(target: Path, session: Session, queries: Sequence[str]) -> None:
    """Write what each query gives, one for each share of the uids."""
    with open_writer(target, SNAPSHOT, compression="zstd") as writer:
        for query in queries:
            for rows in session.rows(query):
                writer.write(rows.cast(SNAPSHOT))


def _changed(
    operation: Operation, files: OperationFiles, range_outcomes: pa.Table
) -> Iterator[pa.RecordBatch]:
    """Yield the uids of an operation that may have changed, in the state that they are in now."""
    mine = range_outcomes.filter(pc.equal(range_outcomes["leg"], operation.value)).sort_by(
        "first_uid"
    )
    firsts = mine["first_uid"].to_numpy()
    ends = firsts + mine["uid_count"].to_numpy()
    states = np.where(
        mine["is_accepted"].to_numpy(), _STATES[operation, True], _STATES[operation, False]
    ).astype(np.uint8)
    if not len(firsts):
        return
    found = 0
    for first, path in files.items():
        start = first
        for batch in read_batches(path, ["uid"]):
            places = np.arange(start, start + len(batch))
            start += len(batch)
            which = np.searchsorted(firsts, places, side="right") - 1
            has_range_outcome = (which >= 0) & (places < ends[which])
            if not has_range_outcome.any():
                continue
            uids = batch["uid"].filter(pa.array(has_range_outcome))
            found += len(uids)
            yield pa.record_batch(
                [uids, pa.array(states[which[has_range_outcome]])], schema=_CHANGED
            )
    if found != sum(mine["uid_count"].to_pylist()):
        raise LedgerError(
            f"the uids that a run has sent ({operation.value}) are not all kept any more", hint=LOST
        )
