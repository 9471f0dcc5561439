"""Stages a query that the engine of plans evaluates itself."""

from pathlib import Path

from engine.planning.query_export import QueryExport
from engine.runs.context import RunContext
from engine.runs.interruptible import compute_or_stop
from engine.runs.ports import EngineComparison, EvaluatesQueries
from engine.snapshot.export_places import open_places
from engine.snapshot.records import Staged
from engine.source.sql.unread import UnreadResult
from engine.storage.computation import Interruption


async def stage_unread(
    source: UnreadResult,
    export: QueryExport,
    comparison: EngineComparison,
    folder: Path,
    context: RunContext,
) -> Staged:
    """Let the engine evaluate the query of `source`, and write the places of its rows to `folder`.

    Raises as `EvaluatesQueries.stage_query`.
    """
    if not isinstance(comparison, EvaluatesQueries):
        raise TypeError(f"{type(comparison).__name__} evaluates no queries")
    context.note(f"the database evaluates the query {export.query.name}")

    def work(interruption: Interruption) -> Staged:
        with context.precedence.waiting("its export"):
            return comparison.stage_query(export, interruption)

    staged = await compute_or_stop(work, context.switch)
    with open_places(folder) as places:
        places.add_records(export.query.name)
    source.note_evaluated(staged.uids)
    return staged
