"""Compares the export with the acknowledged uids, out of core: DuckDB joins them share by share.

Uids are compared as bytes. One outer join for each share of the uids yields the differences. The
numbers of unchanged uids and of duplicate rows follow from the counts.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.model.cohort import Operation
from engine.snapshot.file_format import rows_of
from engine.snapshot.records import (
    NOTHING_HELD,
    UNKNOWN,
    Comparison,
    HeldChanges,
    Member,
    PlannedOperation,
    Snapshot,
    Staged,
    UidState,
)
from engine.storage.capacity import shares_for
from engine.storage.duckdb_session import QueryOptions, Session, open_session
from engine.storage.paths import aside_path, operation_path
from engine.storage.settings import PlanningSettings
from engine.storage.uid_parquet import (
    UidWriter,
    open_writer,
    read_batches,
    schema_of,
    write_batches,
)

OPERATION = schema_of(uid=pa.binary(), was=pa.uint8(), was_run=pa.int32())
"""`was` is the uid's `UidState` in the snapshot, 0 if it had none; `was_run` that state's run."""
ADDS = OPERATION.append(pa.field("row", pa.int64(), nullable=False))
"""`row` is the uid's first row in the staged export, from 0, from which its place is found."""
REJECTIONS = schema_of(uid=pa.binary(), wanted=pa.bool_(), run=pa.int32(), is_due=pa.bool_())
"""Uids that the API did not add (`wanted`) or did not remove, the run of the last rejection, and
whether the uid is due to be sent again."""

_DOUBTFUL = pa.array([int(state) for state in UNKNOWN], pa.uint8())
_KINDS = ("plain", "suspect", "held", "known")
"""The kinds of an operation's uids, in the order of its file."""

# The export's rows are grouped before the join: otherwise a uid with a million rows would be joined
# with itself. A rejection is void once the snapshot includes a later change.
_DIFFERENT = f"""
WITH e AS (
       SELECT uid, count(*) AS n, min(file_row_number::{{row_type}}) AS row
       FROM {{staged}} {{but_excluded}} GROUP BY uid
     ),
     b AS (SELECT uid, state, run FROM {{base}}),
     d AS (
       SELECT coalesce(e.uid, b.uid) AS uid, coalesce(e.n, 0) AS n, e.uid IS NOT NULL AS wanted,
              row, coalesce(b.state, 0)::UTINYINT AS was, coalesce(b.run, 0)::INTEGER AS was_run
       FROM e FULL OUTER JOIN b ON e.uid = b.uid
       WHERE CASE WHEN e.uid IS NULL THEN b.state <> {UidState.OUT:d}
                  ELSE b.state IS DISTINCT FROM {UidState.IN:d} END
     )
SELECT uid, was, was_run, row, n, wanted,
       CASE WHEN r.run >= was_run AND NOT r.is_due THEN {_KINDS.index("known")}
            WHEN was_run IN (SELECT run FROM recent) AND (
              wanted AND was IN ({UidState.OUT:d}, {UidState.MAY_BE_OUT:d})
              OR NOT wanted AND was IN ({UidState.IN:d}, {UidState.MAY_BE_IN:d})
            ) OR CASE WHEN wanted THEN {{all_adds_wait}} ELSE {{all_removes_wait}} END
            THEN {_KINDS.index("held")}
            WHEN r.run >= was_run THEN {_KINDS.index("suspect")}
            ELSE {_KINDS.index("plain")} END::UTINYINT AS kind
FROM d LEFT JOIN rejections AS r USING (uid, wanted)
"""  # noqa: S608 - our own words

_EXCLUDED = "SELECT count(*) AS n FROM {staged} SEMI JOIN {excluded} AS x USING (uid)"

_RESENT = f"""
SELECT uid, state AS was, run AS was_run FROM {{base}} AS b
ANTI JOIN {{removes}} AS r USING (uid)
ANTI JOIN (SELECT uid FROM rejections WHERE wanted AND NOT is_due) AS j USING (uid)
WHERE state = {UidState.IN:d} AND (run < ?1 OR run = ?1 AND uid > ?2)
ORDER BY run DESC, uid LIMIT ?3
"""  # noqa: S608 - our own words
_NEWEST = Member(2**31 - 1, b"")


@dataclass(frozen=True, slots=True)
class Resend:
    """Which of the present members are to be added once more."""

    most: int
    after: Member | None = None
    """The last member resent, after which the round continues; None: a round begins."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What decides which uids are desired, and which of the differences are sent, and when."""

    recent_runs: Sequence[int] = ()
    """Runs whose requests the API may not have applied yet: a change that reverses one of theirs
    is held."""
    waiting: HeldChanges = NOTHING_HELD
    """The other changes that are held."""
    rejections: pa.Table = field(default_factory=REJECTIONS.empty_table)
    """Of the schema `REJECTIONS`."""
    resend: Resend | None = None
    excluded: Staged | None = None
    """Uids that are not desired."""


NO_CONDITIONS = Conditions()


def compare(
    staged: Staged,
    base: Snapshot | None,
    folder: Path,
    options: QueryOptions,
    conditions: Conditions = NO_CONDITIONS,
) -> Comparison:
    """Write the operations `adds.parquet`, `removes.parquet` and `resends.parquet` into `folder`.

    Their schema is `OPERATION`, that of the adds `ADDS`; uids that are known to be rejected follow
    the others. What exceeds memory is spilled beside the staged export. Raises as `open_session`.
    """
    options = options.affordable()
    with open_session(options, staged.path.parent) as session:
        recent = pa.array(conditions.recent_runs, pa.int32())
        session.put("recent", pa.table({"run": recent}))
        session.put("rejections", conditions.rejections)
        with ExitStack() as files:
            to_add = _OperationWriter(operation_path(folder, Operation.ADD), ADDS, files)
            to_remove = _OperationWriter(operation_path(folder, Operation.REMOVE), OPERATION, files)
            differing = lost = 0
            sides = _Sides(session, staged, base, conditions.excluded, options.settings)
            for rows in sides.different(conditions.waiting):
                differing += pc.sum(rows["n"]).as_py() or 0
                to_add.write(rows.filter(rows["wanted"]))
                gone = rows.filter(pc.invert(rows["wanted"]))
                to_remove.write(gone)
                lost += pc.sum(pc.equal(gone["was"], int(UidState.IN))).as_py() or 0
            adds, removes = to_add.finish(), to_remove.finish()
        left_out = sides.count_excluded()
        resent, through = _resend(session, base, folder, conditions.resend)
    unchanged = (base.census.members if base else 0) - lost
    desired = staged.uids - left_out
    duplicate = desired - adds.planned - adds.known - unchanged
    matched = desired - differing
    if not 0 <= matched - unchanged <= duplicate:
        raise RuntimeError(
            f"the comparison does not add up: {staged.uids} uids, {left_out} excluded, "
            f"{differing} differing, {unchanged} unchanged, {duplicate} duplicate"
        )
    return Comparison(adds, removes, unchanged, duplicate, resent, through, left_out)


class _OperationWriter:
    """Writes one operation's rows: the plain ones at once, the others after all plain ones."""

    def __init__(self, path: Path, schema: pa.Schema, files: ExitStack) -> None:
        """Write to `path`, which gets its name once `files` is closed."""
        self._path = path
        self._schema = schema
        self._plain = files.enter_context(open_writer(path, schema))
        self._asides = files.enter_context(ExitStack())
        self._aside: dict[str, UidWriter] = {}
        self._counts = dict.fromkeys(_KINDS, 0)
        self._doubtful = 0

    def write(self, rows: pa.RecordBatch) -> None:
        """Write rows, each with a kind."""
        kinds = rows["kind"].to_numpy()
        for place in np.unique(kinds):
            kind = _KINDS[place]
            chosen = rows.filter(pa.array(kinds == place))
            chosen = chosen.select(self._schema.names).cast(self._schema)
            self._writer(kind).write(chosen)
            self._counts[kind] += len(chosen)
            if kind != "known":
                self._doubtful += pc.sum(pc.is_in(chosen["was"], value_set=_DOUBTFUL)).as_py() or 0

    def _writer(self, kind: str) -> UidWriter:
        if kind == "plain":
            return self._plain
        if kind not in self._aside:
            writer = open_writer(aside_path(self._path, kind), self._schema)
            self._aside[kind] = self._asides.enter_context(writer)
        return self._aside[kind]

    def finish(self) -> PlannedOperation:
        """Append the other rows to the plain ones, and return the operation."""
        self._asides.close()
        for kind in _KINDS:
            if kind in self._aside:
                for rows in read_batches(aside_path(self._path, kind), self._schema.names):
                    self._plain.write(rows.cast(self._schema))
                aside_path(self._path, kind).unlink()
        return PlannedOperation(**self._counts, doubtful=self._doubtful, path=self._path)


@dataclass(frozen=True, slots=True)
class _Sides:
    """What is compared, share by share."""

    session: Session
    staged: Staged
    base: Snapshot | None
    excluded: Staged | None
    settings: PlanningSettings

    @property
    def shares(self) -> int:
        """The number of shares, so that each fits into memory."""
        census, size = (
            (self.base.census.total, self.base.path.stat().st_size) if self.base else (0, 0)
        )
        lists = [self.staged] if self.excluded is None else [self.staged, self.excluded]
        uids, uid_bytes = sum(each.uids for each in lists), sum(each.uid_bytes for each in lists)
        return shares_for(uids + census, uid_bytes + size, self.settings)

    def different(self, waiting: HeldChanges) -> Iterator[pa.RecordBatch]:
        """Yield the differences: uid, was, was_run, its first row, its rows `n`, `wanted`, kind."""
        # The smaller number makes the groups smaller, which saves as much time as memory.
        row_type = "UINTEGER" if self.staged.uids < 1 << 32 else "UBIGINT"
        shares = self.shares
        for which in range(shares):
            excluded = self._excluded(shares, which)
            query = _DIFFERENT.format(
                row_type=row_type,
                staged=self.session.share(self.staged.path, shares, which, has_row_numbers=True),
                but_excluded=f"ANTI JOIN {excluded} AS x USING (uid)" if excluded else "",
                base=rows_of(self.base, self.session, shares, which),
                all_adds_wait=str(waiting.adds).lower(),
                all_removes_wait=str(waiting.removes).lower(),
            )
            yield from self.session.rows(query)

    def count_excluded(self) -> int:
        """Return the number of staged rows whose uid is excluded."""
        shares = self.shares
        count = 0
        for which in range(shares):
            if excluded := self._excluded(shares, which):
                staged = self.session.share(self.staged.path, shares, which)
                query = _EXCLUDED.format(staged=staged, excluded=excluded)
                count += sum(rows["n"][0].as_py() for rows in self.session.rows(query))
        return count

    def _excluded(self, shares: int, which: int) -> str | None:
        excluded = self.excluded
        return None if excluded is None else self.session.share(excluded.path, shares, which)


def _resend(
    session: Session, base: Snapshot | None, folder: Path, resend: Resend | None
) -> tuple[PlannedOperation, Member | None]:
    """Write the uids to be resent; return them, and the last member of this round."""
    path = operation_path(folder, Operation.RESEND)
    if base is None or resend is None:
        write_batches(path, OPERATION, [])
        return PlannedOperation(path=path), None
    query = _RESENT.format(
        base=session.table(base.path),
        removes=session.table(operation_path(folder, Operation.REMOVE)),
    )
    # A round that ended exactly with the last member has none left: the next round begins.
    for after in dict.fromkeys((resend.after or _NEWEST, _NEWEST)):
        count, last = 0, None
        with open_writer(path, OPERATION) as writer:
            for rows in session.rows(query, [after.run, after.uid, resend.most]):
                writer.write(rows.cast(OPERATION))
                count += len(rows)
                last = Member(rows["was_run"][-1].as_py(), rows["uid"][-1].as_py())
        if count:
            break
    return PlannedOperation(count, path=path), last if count == resend.most else None
