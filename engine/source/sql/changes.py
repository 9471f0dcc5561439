"""Queries whose rows say add or remove: the order of their rows, and what each row says.

The database itself sorts the rows and reads the action column, in one expression: so the two agree,
and every driver gives the same small number.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.source.block import Block
from engine.source.formats.arrow_columns import uid_values
from engine.source.formats.rows import RawRows, to_block
from engine.source.sql.query import Query
from engine.storage.uid_parquet import UIDS, schema_of

ACTION = "cohortsync_action"
"""The column that is added to the result: a `RowAction`."""
LISTED = schema_of(uid=pa.binary(), action=pa.uint8())
"""Rows of a list of changes; `action` is a `RowAction`."""


class RowAction(IntEnum):
    """What a row says; of two rows at the same place in the order, the greater one is later."""

    ADD = 1
    REMOVE = 2
    NO_ACTION = 3
    NO_ORDER = 4
    OTHER = 5


_REASONS = {
    RowAction.NO_ACTION: "no action: the action column is null",
    RowAction.NO_ORDER: "no place in the order: the order column is null",
    RowAction.OTHER: "the action is neither add nor remove",
}
"""Why a row is invalid, as `cohortsync rejects` shows it."""


@dataclass(frozen=True, slots=True)
class Notation:
    """How a database writes what the expression needs."""

    quoted: Callable[[str], str]
    """Returns the name of a column as it is written in a statement."""
    as_text: Callable[[str], str]
    """Returns the expression that casts another one to text."""


def notation_of(scheme: str) -> Notation:
    """Return the notation of SQLite, DuckDB, PostgreSQL, Snowflake and BigQuery."""
    mark, kind = ("`", "STRING") if scheme == "bigquery" else ('"', "VARCHAR")
    escaped = "\\`" if mark == "`" else '""'
    return Notation(
        lambda name: f"{mark}{name.replace(mark, escaped)}{mark}",
        lambda expression: f"CAST({expression} AS {kind})",
    )


def in_order(text: str, query: Query, notation: Notation) -> str:
    """Return a query for the rows of `text` in their order, with the column `ACTION`."""
    action, order = (
        notation.quoted(each) for each in (query.action_column, query.order_column) if each
    )
    said = f"lower(trim({notation.as_text(action)}))"
    return f"""SELECT listed.*, CASE
    WHEN {order} IS NULL THEN {RowAction.NO_ORDER.value}
    WHEN {action} IS NULL THEN {RowAction.NO_ACTION.value}
    WHEN {said} IN ('add', 'true', '1') THEN {RowAction.ADD.value}
    WHEN {said} IN ('remove', 'false', '0') THEN {RowAction.REMOVE.value}
    ELSE {RowAction.OTHER.value} END AS {notation.quoted(ACTION)}
FROM (
{text}
) listed ORDER BY {order}, {notation.quoted(ACTION)}"""  # noqa: S608 - the user's own


def rows_of(batch: pa.RecordBatch, column: str, *, lists_changes: bool) -> pa.RecordBatch:
    """Return the rows of a result, of the schema `LISTED` or `UIDS`; an absent uid is empty."""
    uids = pc.fill_null(uid_values(batch, column).cast(pa.binary()), b"")
    if not lists_changes:
        return pa.record_batch([uids], schema=UIDS)
    # Drivers give the number as integers of several types, as decimals or as text.
    actions = uid_values(batch, ACTION).cast(pa.string()).cast(pa.uint8())
    return pa.record_batch([uids, actions], schema=LISTED)


def block_of(rows: pa.RecordBatch, *, file: str, first_record: int, strip: bool) -> Block:
    """Return the block of rows of the schema `LISTED`, or of `UIDS`; see `to_block`."""
    if rows.schema.names == UIDS.names:
        raw = RawRows(rows["uid"], records=len(rows))
        return to_block(raw, file=file, first_record=first_record, strip=strip)
    actions = rows["action"].to_numpy()
    is_valid = actions <= RowAction.REMOVE
    refused = [(int(at), _REASONS[RowAction(actions[at])]) for at in np.flatnonzero(~is_valid)]
    raw = RawRows(rows["uid"].filter(pa.array(is_valid)), refused, records=len(rows))
    block = to_block(raw, file=file, first_record=first_record, strip=strip)
    has_uid = np.ones(len(rows), np.bool_)
    for run in block.skipped:
        start = run.record - first_record
        has_uid[start : start + run.count] = False
    return replace(block, is_remove=actions[has_uid] == RowAction.REMOVE)
