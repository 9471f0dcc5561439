"""Stages the result of a query where it is: the database evaluates the query into a table.

Counts, the places of rows without a uid, and a sample of the uids come here; the rows do not.
"""

import pyarrow as pa

from engine.planning.database.query_statements import (
    REASONS,
    Column,
    QueryStatements,
    counts,
    misfits,
    sample,
    skipped,
    without_skipped,
)
from engine.planning.database.session import QuerySession
from engine.planning.database.uid_patterns import common_pattern
from engine.planning.database.uploading import TableList
from engine.planning.query_export import QueryExport
from engine.snapshot.records import Staged
from engine.source.block import Skipped
from engine.source.sql.reading import query_columns
from engine.storage.computation import Interruption

_SAMPLE = 16_384
"""The uids whose form is looked at, at least half of it: a profile is about shares."""


def stage_result(
    session: QuerySession, export: QueryExport, table: str, interruption: Interruption
) -> Staged:
    """Fill a temporary table of the schema `STAGED` with the result of a query.

    Raises as `QuerySession.fill` and `query_columns`.
    """
    statements = _statements(session, export)
    interruption.check()
    session.fill(table, statements.rows, export.query)
    interruption.check()
    found = {reason: (rows, size) for reason, rows, size in session.rows(counts(table))}
    uids, uid_bytes = found.get(None, (0, 0))
    if found.keys() - {None}:
        _skip(session, export, table, interruption)
        session.execute(without_skipped(table))
    read = export.counts
    read.records = sum(rows for rows, _ in found.values())
    _inspect(session, export, table, uids)
    return Staged(
        TableList(session, table), read.records, read.blank, read.invalid, uids, uid_bytes
    )


def _statements(session: QuerySession, export: QueryExport) -> QueryStatements:
    query = export.query
    schema = session.schema_of(query)
    column, _ = query_columns(query, schema, export.options.column)
    by = query.cohort_column
    return QueryStatements(
        session.functions,
        query.statement,
        Column(schema, column),
        export.options.strip,
        None if by is None else Column(schema, by),
        query.value or "",
    )


def _skip(
    session: QuerySession, export: QueryExport, table: str, interruption: Interruption
) -> None:
    """Pass on which rows have no uid, and why; a record is the number of a row, from 1."""
    read = export.counts
    for batch in session.batches(skipped(table)):
        interruption.check()
        rows = zip(*(batch[name].to_pylist() for name in ("row", "n", "reason")), strict=True)
        runs = [Skipped(row + 1, count, REASONS[reason]) for row, count, reason in rows]
        for run in runs:
            read.records += run.count
            read.blank += run.count if run.kind == "blank" else 0
            read.invalid += run.count if run.kind == "invalid" else 0
        export.skip(runs)


def _inspect(session: QuerySession, export: QueryExport, table: str, uids: int) -> None:
    """Look at a sample of the uids, and count those that do not match the pattern."""
    inspection = export.inspection
    each = max(1, export.counts.records // _SAMPLE)
    found = pa.chunked_array(
        [batch["uid"].cast(pa.string()) for batch in session.batches(sample(table, each))],
        pa.string(),
    )
    inspection.profile.look_at_sample(found.combine_chunks(), uids)
    if inspection.uid_pattern is None:
        return
    pattern = common_pattern(inspection.uid_pattern)
    if pattern is None:
        raise TypeError("a pattern of which the databases may understand another is judged here")
    [(count,)] = session.rows(misfits(session.functions, table, pattern))
    inspection.misfits += count
