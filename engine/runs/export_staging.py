"""Reads a mirror's export and its exclusion list to their ends, into lists that can be compared."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from engine.errors import EmptyExportError
from engine.ledger.records import NO_BATCH, RowsRead
from engine.payload.batch import RowCounter, SkippedRows
from engine.planning.profile import Inspection
from engine.planning.query_export import QueryExport
from engine.planning.staging import stage, stage_changes
from engine.runs.context import RunContext
from engine.runs.exports import about_exclusion
from engine.runs.interruptible import WritePermission, read_or_stop
from engine.runs.ports import EngineComparison, Ledger
from engine.runs.query_staging import stage_unread
from engine.snapshot.export_places import open_places
from engine.snapshot.records import Staged
from engine.source.block import Block, Skipped
from engine.source.exclusion import excluded_blocks
from engine.source.protocol import Source, Spec, files_of
from engine.source.source_file import describe_files
from engine.source.sql.unread import UnreadResult

T = TypeVar("T")


class ExportStaging:
    """Reads what one plan compares; a stop ends it."""

    def __init__(self, context: RunContext, ledger: Ledger, comparison: EngineComparison) -> None:
        """Keep what is read in lists of `comparison`."""
        self._context = context
        self._switch = context.switch
        self._note = context.note
        self._precedence = context.precedence
        self._ledger = ledger
        self._comparison = comparison

    async def export(
        self, source: Source, spec: Spec, run: int, folder: Path, inspection: Inspection
    ) -> tuple[Staged, Staged | None]:
        """Read the export to its end; keep its uids, and write their places to `folder`.

        The rows of a list of changes that say remove are in a list of their own. Raises what
        reading the export raises, and `IncompleteError` as soon as a stop comes.
        """
        counts = RowCounter()
        loop = asyncio.get_running_loop()

        def enter_skipped(file: str, skipped: Sequence[Skipped]) -> None:
            if not skipped:
                return
            rows = [SkippedRows(file, each) for each in skipped]
            entry = self._ledger.runs.skip(run, NO_BATCH, rows)
            asyncio.run_coroutine_threadsafe(entry, loop).result()

        is_complete = False
        try:
            if isinstance(source, UnreadResult):
                enter = partial(enter_skipped, source.query.name)
                export = QueryExport(source.query, source.options, inspection, counts, enter)
                context, lists = self._context, self._comparison
                staged: tuple[Staged, Staged | None] = (
                    await stage_unread(source, export, lists, folder, context),
                    None,
                )
            else:
                staged = await self._rows(source, spec, folder, inspection, counts, enter_skipped)
            is_complete = True
        finally:  # However it ends: the skipped rows are in the ledger already.
            rows = RowsRead(counts.records, counts.blank, counts.invalid, is_complete)
            await self._ledger.runs.enter_rows_read(run, rows, files_of(source))
        return staged

    async def _rows(  # noqa: PLR0913, PLR0917 - the export, and who sees each block
        self,
        source: Source,
        spec: Spec,
        folder: Path,
        inspection: Inspection,
        counts: RowCounter,
        enter_skipped: Callable[[str, Sequence[Skipped]], None],
    ) -> tuple[Staged, Staged | None]:
        """Read the rows of an export here; raises as `export`."""
        kept = [self._comparison.new_list() for _ in range(2 if spec.lists_changes else 1)]

        def write(blocks: Iterator[Block]) -> tuple[Staged, Staged | None]:
            with open_places(folder) as places:
                observe = (
                    lambda block: enter_skipped(block.file, block.skipped),
                    lambda block: inspection.look(block.uids),
                    places.add,
                )
                if spec.lists_changes:
                    return stage_changes(blocks, *kept, counts=counts, observe=observe)
                return stage(blocks, *kept, counts=counts, observe=observe), None

        read = files_of(source)
        what = describe_files(read) if read else ", ".join(spec.names)
        self._note(f"reading the export: {what}")
        return await self._read(source.blocks(), write)

    async def excluded(self, source: Source) -> Staged:
        """Read the exclusion list to its end, and keep its uids; raises as `export`."""
        rows = self._comparison.new_list()
        with about_exclusion():
            return await self._read(excluded_blocks(source), lambda blocks: stage(blocks, rows))

    async def _read(self, blocks: Iterator[Block], write: Callable[[Iterator[Block]], T]) -> T:
        """Pass the blocks to `write` in a thread; after a stop it writes no more."""
        permission = WritePermission()

        def work() -> T:
            with permission.held():
                return write(permission.released_between(self._until_stop(blocks)))

        return await read_or_stop(work, self._switch, permission)

    def _until_stop(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yield blocks; raise `IncompleteError` after a stop."""
        try:
            for block in self._precedence.reading(blocks):
                self._switch.refuse_if_pulled()
                yield block
        except EmptyExportError:
            return  # The `empty` guard reports this.
