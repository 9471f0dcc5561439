"""The snapshots of one cohort: listed, verified, exported, and made from lists or files.

A snapshot holds the uids of a cohort that the API has acknowledged after a run.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, Unpack

from engine.clock import SystemClock
from engine.config.loading import Config
from engine.delivery.stop import StopSwitch
from engine.errors import UsageError
from engine.ledger.sqlite.access import ledger_in
from engine.ledger.sqlite.reader import LedgerReader
from engine.model.cohort import CohortKey, check_id
from engine.planning.allowances import read_allowances
from engine.planning.settings import GuardSettings
from engine.report.snapshots import (
    SnapshotComparison,
    SnapshotEntry,
    SnapshotOfList,
    VerifiedSnapshot,
)
from engine.runs import transfer
from engine.runs.arguments import Exports, Note, Reading, no_note
from engine.runs.context import RunContext, RunObservers
from engine.runs.engines import store_of
from engine.runs.exports import open_exports, spec_of
from engine.runs.ledger_reads import opened_in_thread
from engine.runs.session import WorkspaceSession
from engine.runs.transfer import StagedSnapshot
from engine.snapshot.store import SnapshotStore
from engine.source.protocol import Source, files_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The snapshots of one cohort.

    The methods that only read (`entries`, `verify`, `export`, `compare`) raise `UsageError` if
    there is no snapshot, and do not disturb runs. The others wait `wait_seconds` for another
    process that works on the workspace, and then raise `LockHeldError`. Each raises `LedgerError`
    for a damaged ledger or snapshot. The reading options are those of `Engine.push`.
    """

    session: WorkspaceSession
    key: CohortKey
    note: Note
    switch: StopSwitch
    guards: GuardSettings
    """The limits of the cohort."""

    @property
    def config(self) -> Config:
        """The session's configuration."""
        return self.session.config

    def __post_init__(self) -> None:
        check_id(self.key.cohort_id)

    async def entries(self) -> list[SnapshotEntry]:
        """Return every snapshot, the current one first."""
        found = await self._look(lambda store: store.generations())
        return [SnapshotEntry.of(each) for each in found]

    async def verify(self) -> list[VerifiedSnapshot]:
        """Read every kept snapshot, and return whether each is unchanged since it was made."""
        found = await self._look(lambda store: store.verify_all())
        return [VerifiedSnapshot(SnapshotEntry.of(each), wrong) for each, wrong in found]

    async def export(
        self, path: Path, generation: int | None = None, *, members_only: bool = False
    ) -> None:
        """Copy a snapshot, by default the current one, to a new Parquet file.

        Its columns are uid, state (1 in, 2 and 4 unknown, 3 out) and run; with `members_only` it
        holds only the uids of members. Raises `UsageError` if `path` exists.
        """
        if str(path) == "-":
            raise UsageError("a snapshot can't be written to stdout", hint="name a file")
        await self._look(
            lambda store: transfer.export(
                store, path, generation, self._target, members_only=members_only
            )
        )

    async def import_(
        self, path: Path, *, from_elsewhere: bool = False, wait_seconds: float = 0.0
    ) -> SnapshotEntry:
        """Replace the current snapshot by a file that `export` wrote.

        Raises `UsageError` for a file that `export` did not write, for another cohort and, without
        `from_elsewhere`, for another endpoint, workspace or partner.
        """
        made = await self._change(
            lambda store: transfer.import_snapshot(
                store, path, self._target, from_elsewhere=from_elsewhere
            ),
            wait_seconds,
            catches_up=False,
        )
        return SnapshotEntry.of(made)

    async def compare(self, exports: Exports, **reading: Unpack[Reading]) -> SnapshotComparison:
        """Compare a list with the current snapshot; nothing is changed."""
        source = await self._open(exports, reading)
        counts = await self._look(
            lambda store: transfer.compare_with(store, source.blocks(), self.switch)
        )
        return SnapshotComparison(counts, files_of(source))

    async def adopt(
        self, exports: Exports, *, wait_seconds: float = 0.0, **reading: Unpack[Reading]
    ) -> SnapshotOfList:
        """Add the uids of a list that another program has pushed, as possible members."""
        source = await self._open(exports, reading)
        made = await self._change(
            lambda store: transfer.adopt(store, source.blocks(), self.switch), wait_seconds
        )
        return _of_list(made, source)

    async def reconcile(
        self,
        exports: Exports,
        *,
        allow: Sequence[str] = (),
        reason: str | None = None,
        wait_seconds: float = 0.0,
        **reading: Unpack[Reading],
    ) -> SnapshotOfList:
        """Replace the current snapshot by a list of the cohort's real members.

        Raises `GuardError` for a list that the guards would refuse as an export.
        """
        allowances = read_allowances(allow, reason)
        source = await self._open(exports, reading)
        made = await self._change(
            lambda store: transfer.reconcile(
                *(store, source.blocks(), self.switch, self.guards),
                *(allowances, files_of(source)),
                reason=reason,
            ),
            wait_seconds,
        )
        return _of_list(made, source)

    async def _open(self, exports: Exports, reading: Reading) -> Source:
        spec = spec_of(exports, reading)
        return await open_exports(spec, note=no_note, switch=self.switch)

    @property
    def _target(self) -> str:
        """The endpoint, workspace and partner that a snapshot belongs to."""
        workspace = self.config.workspace
        return f"{workspace.endpoint.url} / {workspace.id} / {workspace.partner}"

    async def _look(self, look: Callable[[SnapshotStore], Awaitable[T]]) -> T:
        """Do work that only reads; it does not disturb a process that works on the cohort."""
        config, key = self.config, self.key
        workspace, folder = config.workspace, config.place.folder
        unknown = UsageError(
            f"there is no {'shadow ' if key.is_shadow else ''}snapshot of cohort {key.cohort_id} "
            f"of partner {workspace.partner}, workspace {workspace.id} at "
            f"{workspace.endpoint.label}",
            hint="`cohortsync runs` lists the cohorts that were mirrored",
        )
        if (path := ledger_in(folder)) is None:
            raise unknown
        clock = SystemClock()
        async with opened_in_thread(LedgerReader.open(path, clock)) as ledger:
            store = store_of(config, folder, ledger.snapshots, key, clock)
            if not await store.generations():
                raise unknown
            try:
                return await look(store)
            finally:
                store.close()

    async def _change(
        self,
        change: Callable[[SnapshotStore], Awaitable[T]],
        wait_seconds: float,
        *,
        catches_up: bool = True,
    ) -> T:
        """Do work that changes the snapshots, after all that was sent is folded into them."""
        observers = RunObservers(note=self.note, switch=self.switch)
        context = RunContext(self.session, self.key, observers)
        async with context.open(wait_seconds, goes_by_snapshot=False) as (_, store):
            if catches_up:
                await store.catch_up()
            return await change(store)


def _of_list(made: StagedSnapshot, source: Source) -> SnapshotOfList:
    rows = made.rows
    return SnapshotOfList(
        SnapshotEntry.of(made.generation),
        rows.rows_read,
        rows.blank,
        rows.invalid,
        rows.uids,
        files_of(source),
    )
