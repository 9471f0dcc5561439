"""PostgreSQL joins large tables by hash or index: all temporary tables are analyzed before."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from comparison_cases import OPTIONS, THIS_RUN, Case, blocks_of
from known_snapshot import SETTINGS, snapshot_of

from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.planning.conditions import Resend
from engine.planning.database import postgres_session
from engine.planning.database.engine import ExternalEngine
from engine.planning.database.session import DatabaseSession
from engine.planning.database.statements import Tables
from engine.planning.database.tables import TableGenerations
from engine.planning.staging import stage
from engine.runs.engines import opened
from engine.snapshot.fold import RunChanges
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.records import Member, UidState
from engine.source.sql.connection import Connection
from engine.storage.computation import Interruption
from engine.storage.paths import generation_path

if TYPE_CHECKING:
    from postgres_server import PostgresServer

_PLANNED = re.compile(r"\s*(select|with|insert|delete|update|create temp table \w+ as)\b")
_NEVER = "select relname from pg_class where relpersistence = 't' and reltuples < 0"
_FEW = 10
"""Rows that a loop may read again and again."""


class ExplainedSession(postgres_session.PostgresSession):
    """A session that has each statement explained before it is run."""

    faults: list[str]
    explained: int

    def execute(self, *statements: str) -> None:
        for each in statements:
            self._explain(each)
            super().execute(each)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        self._explain(query)
        return super().rows(query)

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        self._explain(query)
        return super().batches(query)

    def _explain(self, statement: str) -> None:
        if not _PLANNED.match(statement):
            return
        type(self).explained += 1
        with self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            cursor.execute(f"explain (format json) {statement}")
            [(found,)] = cursor.fetchall()
            cursor.execute(_NEVER)
            never = {name for (name,) in cursor.fetchall()} - {"asked"}  # It has one row.
        for node in nodes(json.loads(found)[0]["Plan"]):
            if "Scan" in node["Node Type"] and node.get("Relation Name") in never:
                self.faults.append(f"{node['Relation Name']} is not analyzed: {statement}")
            if node["Node Type"] == "Nested Loop":
                inner = node["Plans"][1]
                if inner["Node Type"] in {"Seq Scan", "Materialize"} and inner["Plan Rows"] > _FEW:
                    self.faults.append(f"a loop over a table: {statement}")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a node of a plan, and all below it."""
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def test_no_statement_loops_over_a_large_table(
    postgres: "PostgresServer", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_session, "PostgresSession", ExplainedSession)
    ExplainedSession.faults, ExplainedSession.explained = [], 0
    connection = Connection("warehouse", postgres.url, tmp_path)

    @contextmanager
    def session(interruption: Interruption) -> Iterator[DatabaseSession]:
        with opened(connection, SETTINGS, interruption) as found:
            yield found

    generations = TableGenerations(Tables("explained"), 1)
    engine = ExternalEngine(session, "warehouse", "the database", generations)
    uids = [f"{number:024}" for number in range(9_000)]
    rejected = {(uid, Operation.ADD): (1, True) for uid in uids[8_000:]}
    resend = Resend(5_000, Member(1, uids[100].encode()))
    case = Case(uids[3_000:], {}, frozenset({1}), rejected, resend=resend)
    for number, end in ((1, 6_000), (2, 7_000)):
        known = dict.fromkeys(uids[:end], (UidState.IN, number))
        base = engine.make(
            lambda path, _, known=known: snapshot_of(known, path, is_sorted=True),
            generation_path(tmp_path, number),
            OPTIONS,
        )
    with engine.comparing(tmp_path, OPTIONS) as comparison:
        staged = stage(blocks_of(case.export, 5_000), comparison.new_list())
        excluded = stage(blocks_of(uids[5_000:6_000], 5_000), comparison.new_list())
        found = comparison.compare(staged, base, tmp_path, OPTIONS, case.bearing(excluded))
    outcomes = [RangeOutcome(Operation.ADD, 0, found.adds.planned, is_accepted=True)]
    changes = RunChanges(
        THIS_RUN, [OperationUids(Operation.ADD, {0: found.adds.path})], outcomes, [THIS_RUN]
    )
    for _ in range(2):  # The second time, the first is undone.
        made = engine.fold(base, changes, generation_path(tmp_path, 3), OPTIONS)
    engine.verify(made, is_thorough=True)
    engine.look_up(made.path, uids[0])
    assert ExplainedSession.faults == []
    assert ExplainedSession.explained > 50
