"""The queries that one command runs, and their results in the state folder.

A query is run once, and its result is spooled there. A push that is resumed reads the spool of its
first run, and does not run the query again. A spool is deleted as soon as no run needs it.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from engine.cancellation import run_in_thread
from engine.clock import Clock
from engine.delivery.stop import Stop, StopSwitch
from engine.errors import IncompleteError, UsageError
from engine.ledger.run_records import StoredRequest
from engine.ledger.state_folder import make_folder
from engine.model.cohort import Action, Cohort
from engine.report.history import unfinished_runs
from engine.runs.arguments import Note
from engine.runs.evaluation import is_beside, is_evaluated
from engine.runs.interruptible import read_or_stop
from engine.runs.session import WorkspaceSession
from engine.source.options import ReadingOptions
from engine.source.spec import SourceSpec
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.connection import Connection
from engine.source.sql.query import Query, QueryResult
from engine.storage.paths import is_uid_file, queries_folder
from engine.storage.temporary import remove_abandoned_parts

if TYPE_CHECKING:
    from engine.source.sql.reading import Spooled

_YOUNG_SECONDS = 600
"""A spool that is younger is kept: it may be about to be used."""
_END_SECONDS, _END_TRIES = 0.5, 20
"""How long a stop waits for a query before it ends it again, and how often it does; then the
connection is left to its thread."""


@dataclass(frozen=True, slots=True)
class SharedRead:
    """A query, without a value, and the uid column: cohorts that have both equal share a read."""

    query: Query
    column: str | None


class Queries:
    """The queries of one command in one workspace; an async context manager.

    When it is left, it deletes the spools that no unfinished push needs.
    """

    def __init__(
        self,
        session: WorkspaceSession,
        wanted: Mapping[SharedRead, Sequence[str | None]] | None = None,
    ) -> None:
        """`wanted`: the values of `cohort_column` that are read together, if a query has any."""
        self._session = session
        self._wanted = wanted or {}
        self._readings: dict[SharedRead, _Reading] = {}
        self._held: dict[Path, int] = {}
        """The spools that this command uses, with the descriptor that keeps others off each."""

    async def __aenter__(self) -> Self:
        """Return the queries; nothing is run yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what is still read, and delete the spools that are no longer needed."""
        for reading in self._readings.values():
            await reading.end()
        await self.release(tuple(self._held))

    async def read(
        self, query: Query, column: str | None, switch: StopSwitch, note: Note
    ) -> QueryResult:
        """Return the result of a query, which is run unless this command has run it.

        Raises as `QueryReading.spool`, and `IncompleteError` if a stop comes meanwhile.
        """
        shared = SharedRead(query.of(None), column)
        reading = self._readings.get(shared)
        if reading is None or reading.is_ended_early:
            values = dict.fromkeys((query.value, *self._wanted.get(shared, ())))
            reading = _Reading(self._connection(query), shared, tuple(values), self)
            self._readings[shared] = reading
            note(f"running the query {shared.query.name}")
        return await reading.result(query, switch)

    def _connection(self, query: Query) -> Connection:
        """Return the connection of a query; raises `UsageError` if it is not configured."""
        found = self._session.config.connections.get(query.connection)
        if found is None:
            raise UsageError(
                f"there is no connection {query.connection!r}",
                hint=f"configure it as [connections.{query.connection}]",
            )
        config = self._session.config
        return replace(found, plans=config.planning) if is_beside(config, query) else found

    def evaluates(self, query: Query, uid_pattern: str | None, note: Note) -> bool:
        """Return whether the database that makes the plans evaluates a mirror's query.

        Lists of changes are read here. If the pattern is the reason, `note` says so.
        """
        config = self._session.config
        if is_evaluated(config, query, uid_pattern):
            return True
        if is_beside(config, query) and not query.lists_changes:
            note(
                "the rows of the query are read here: `uid_pattern` has what databases may "
                "understand in another way (docs/engines.md)"
            )
        return False

    @property
    def clock(self) -> Clock:
        """The clock of the session."""
        return self._session.clock

    @property
    def state_dir(self) -> Path:
        """The state folder."""
        return self._session.config.state_dir

    @property
    def folder(self) -> Path:
        """The folder of the spools; it need not exist yet."""
        return queries_folder(self._session.folder)

    async def resumable(
        self, cohort: Cohort, action: Action, options: ReadingOptions
    ) -> StoredRequest | None:
        """Return the unfinished push of a cohort that read a query; None if there is none."""
        config, workspace = self._session.config, self._session.config.workspace
        target = (config.place.endpoint, workspace.id, workspace.partner)
        found = await asyncio.to_thread(
            unfinished_runs, config.state_dir, target, self._session.cohorts
        )
        mine = [
            each
            for each in found
            if (each.cohort_id, each.cohort_name, each.action) == (cohort.id, cohort.name, action)
            and each.cohort_description == cohort.description
            and each.spec.options == options
        ]
        return mine[-1] if mine else None

    def hold(self, spool: Path) -> bool:
        """Keep a spool until it is released; return whether it is there."""
        if spool in self._held:
            return True
        try:
            descriptor = os.open(spool, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        with suppress(OSError):  # On a file system without locks, its age protects it.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self._held[spool] = descriptor
        return True

    def hold_all(self, spec: SourceSpec) -> None:
        """Keep the spools that a spec reads."""
        for spool in spools_of(spec):
            self.hold(spool)

    async def release(self, spools: Iterable[Path]) -> None:
        """Let go of spools, and delete those that no unfinished push needs."""
        found = {each: self._held.pop(each) for each in spools if each in self._held}
        if not found:
            return

        def delete() -> None:
            try:
                kept = needed_spools(self._session.config.state_dir)
                for spool in found.keys() - kept:
                    spool.unlink(missing_ok=True)
            finally:
                for descriptor in found.values():
                    os.close(descriptor)

        # What is left is deleted by a later command; that must not hide how this one ended.
        with suppress(Exception):
            await run_in_thread(delete)


@dataclass(slots=True)
class CohortQueries:
    """The queries of one cohort's export and exclusion list; an async context manager."""

    queries: Queries
    cohort: Cohort
    action: Action | None
    """What a push does; None for a mirror, which is not resumed."""
    switch: StopSwitch
    note: Note
    uid_pattern: str | None = None
    """What the uids of a mirror should match."""
    _spools: list[Path] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        """Return the queries; nothing is run yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Delete the spools that are no longer needed."""
        await self.queries.release(self._spools)

    async def result(
        self, query: Query, options: ReadingOptions, *, is_exclusion: bool = False
    ) -> QueryResult:
        """Return the result of a query: of the unfinished push if there is one, or a new one.

        That of a mirror is left to the database that makes the plan, if the query is on its
        connection. Raises as `Queries.read`.
        """
        found = None
        if self.action is None and not is_exclusion:
            if self.queries.evaluates(query, self.uid_pattern, self.note):
                return QueryResult(query, None, None, self.queries.clock.stamp().utc_ns)
        elif self.action is not None:
            found = await self._kept(query, options, is_exclusion=is_exclusion)
        if found is None:
            found = await self.queries.read(query, options.column, self.switch, self.note)
        if found.spool is not None:
            self._spools.append(found.spool)
        return found

    async def _kept(
        self, query: Query, options: ReadingOptions, *, is_exclusion: bool
    ) -> QueryResult | None:
        assert self.action is not None  # noqa: S101 - the caller's condition, for mypy
        run = await self.queries.resumable(self.cohort, self.action, options)
        spec = None if run is None else run.spec
        if spec is not None and is_exclusion:
            spec = spec.exclude
        if run is None or spec is None or spec.query is None or spec.query.query != query:
            return None
        if spec.query.spool is None or not self.queries.hold(spec.query.spool):
            return None
        self.note(f"run {run.name} goes on with what the query returned then: {query.name}")
        return spec.query


class _Reading:
    """One run of a query, which several cohorts may wait for."""

    def __init__(
        self,
        connection: Connection,
        shared: SharedRead,
        values: Sequence[str | None],
        queries: Queries,
    ) -> None:
        self._connection = connection
        self._shared = shared
        self._values = values
        self._queries = queries
        self._waiting = 0
        self._cancellation = Cancellation()
        self._switch = StopSwitch()
        self._ended = asyncio.Event()
        self._task = asyncio.create_task(self._read())
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    @property
    def is_ended_early(self) -> bool:
        """Whether nobody waited for it any more before it was complete."""
        return self._cancellation.is_requested

    async def result(self, query: Query, switch: StopSwitch) -> QueryResult:
        """Wait for the end; raises the error of reading, or `IncompleteError` after a stop."""
        stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

        def stop(why: Stop) -> None:
            if not stopped.done():
                stopped.set_result(why)

        self._waiting += 1
        try:
            with switch.connected(stop):
                await asyncio.wait((self._task, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting -= 1
            if not self._waiting:
                await self.end()
        if stopped.done():
            why = stopped.result()
            raise IncompleteError(why.reason, hint=why.hint)
        found = self._task.result()[query.value]
        return QueryResult(query, found.digest, found.path, found.read_utc_ns)

    async def end(self) -> None:
        """End the query if it is still running, and wait for the end of its connection."""
        if self._task.done():
            return
        for _ in range(_END_TRIES):  # A query that is just about to begin hears only a later one.
            self._cancellation.request()
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await self._ended.wait()
                    break
        self._switch.pull("the query is not needed any more")
        await asyncio.wait((self._task,))

    async def _read(self) -> "dict[str | None, Spooled]":
        from engine.source.sql.reading import QueryReading  # noqa: PLC0415 - Arrow is large

        reading = QueryReading(
            self._connection, self._shared.query, self._shared.column, self._values
        )
        loop = asyncio.get_running_loop()
        queries = self._queries

        def work() -> "dict[str | None, Spooled]":
            try:
                make_folder(queries.folder)
                sweep(queries.folder, queries.state_dir)
                now = queries.clock.stamp().utc_ns
                return reading.spool(queries.folder, self._cancellation, now)
            finally:
                with suppress(RuntimeError):  # A stop may have closed the loop meanwhile.
                    loop.call_soon_threadsafe(self._ended.set)

        found = await read_or_stop(work, self._switch)
        for each in found.values():
            queries.hold(each.path)
        return found


def spools_of(spec: SourceSpec) -> list[Path]:
    """Return the spools that a spec reads: that of its query, and that of its exclusion list."""
    found = [] if spec.query is None or spec.query.spool is None else [spec.query.spool]
    return found + ([] if spec.exclude is None else spools_of(spec.exclude))


def needed_spools(state: Path) -> set[Path]:
    """Return the spools that an unfinished push reads. Raises `LedgerError`."""
    return {each for run in unfinished_runs(state, None) for each in spools_of(run.spec)}


def sweep(folder: Path, state: Path) -> int:
    """Delete the spools in a folder that nobody uses and no unfinished push needs; return bytes.

    They are of processes that died. Raises `LedgerError`.
    """
    if not folder.is_dir():
        return 0
    remove_abandoned_parts(folder)
    kept, deleted = needed_spools(state), 0
    for path in folder.iterdir():
        if is_uid_file(path.name) and path not in kept:
            with suppress(OSError):
                deleted += _delete_unused(path)
    return deleted


def _delete_unused(path: Path) -> int:
    """Delete a spool that is not young, and that no process holds; else raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if time.time() - status.st_mtime < _YOUNG_SECONDS:
            return 0
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return status.st_size
    finally:
        os.close(descriptor)
