"""The comparison in a database, and snapshots whose rows are in tables of it.

Only what changes comes to this machine, or leaves it: an export is loaded into a temporary table,
compared there, and the differences are written to the same files as those of the comparison on this
machine. A snapshot moves in one transaction, which is refused unless the current generation is the
one that it was made from: its token is in a file beside the ledger.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from engine.errors import LedgerError
from engine.planning.database import statements
from engine.planning.database.comparison import DatabaseComparison
from engine.planning.database.record import GenerationRecord
from engine.planning.database.session import DatabaseSession
from engine.planning.database.statements import Tables
from engine.planning.database.uploading import upload
from engine.snapshot.file_format import look_up, verify
from engine.snapshot.fold import RunChanges, changed_states, fold
from engine.snapshot.partitions import CHANGE
from engine.snapshot.records import UNKNOWN, Census, Snapshot, UidState
from engine.snapshot.sorted_file import SNAPSHOT
from engine.storage.computation import ComputeOptions, Interruption
from engine.storage.files import digest_of, work_folder
from engine.storage.paths import TemporaryName, TemporaryPurpose, is_uid_file, record_path
from engine.storage.uid_parquet import LOST, read_batches, write_batches

_UID = pa.schema([("uid", pa.binary())])


@dataclass(frozen=True, slots=True)
class DatabaseEngine:
    """Compares in a database, and keeps snapshots there. Fulfils `PlanEngine`."""

    open: Callable[[Interruption], AbstractContextManager[DatabaseSession]]
    """Opens a session, which a stop cancels."""
    connection: str
    """The name of the connection."""
    tables: Tables
    kept: int
    """The number of generations that the ledger keeps."""

    def latest(self) -> int | None:
        """Return the number of the current generation in the database; None if there is none."""
        with self.open(Interruption()) as session:
            if not session.rows(self.tables.exist):
                return None
            number, _ = self._head(session)
        return number or None

    def verify(self, snapshot: Snapshot, *, is_thorough: bool = False) -> None:
        """Raise `LedgerError` unless the record is unchanged, and the database has its generation.

        If it `is_thorough`, the uids in each state are counted.
        """
        verify(snapshot)
        if is_uid_file(snapshot.path.name):
            return  # Of a time when uids were compared on this machine.
        record = self._record(snapshot.path)
        with self.open(Interruption()) as session:
            self._refuse_lost(session, record)
            if not is_thorough:
                return
            found = _census(dict(session.rows(self.tables.states_of(record.number))))
        if found != snapshot.census:
            raise LedgerError(
                f"generation {record.number} in the database of `connections.{self.connection}` is "
                f"corrupt: it has {found.total:,} uids in other states than it was made with",
                hint=LOST,
            )

    def needs_sorting(self, snapshot: Snapshot) -> bool:
        """Return False: the rows of a file are loaded before they are compared."""
        del snapshot
        return False

    @contextmanager
    def comparing(self, folder: Path, options: ComputeOptions) -> Iterator[DatabaseComparison]:
        """Yield a comparison in a session of its own."""
        del folder
        with self.open(options.interruption) as session:
            yield DatabaseComparison(session, partial(self._base_table, session))

    def _base_table(self, session: DatabaseSession, base: Snapshot | None) -> str:
        """Return the table of the rows that an export is compared with; a transaction is open."""
        if base is not None and not is_uid_file(base.path.name):
            record = self._record(base.path)
            if self._head(session) != (record.number, record.token):
                raise self._moved()
            return self.tables.members
        session.new_table("base", SNAPSHOT)
        if base is not None:
            upload(session, "base", read_batches(base.path, SNAPSHOT.names))
        return "base"

    def make(
        self,
        maker: Callable[[Path, Interruption], Snapshot],
        target: Path,
        options: ComputeOptions,
    ) -> Snapshot:
        """Load the rows that `maker` writes to a file, and move the snapshot to them.

        Raises `LedgerError` if the database has a generation of that number or a later one, which
        another machine has made.
        """
        with work_folder(target.parent, TemporaryPurpose.IMPORT) as folder:
            made = maker(folder / TemporaryName.ROWS.format(0), options.interruption)
            with self.open(options.interruption) as session:
                self._create(session)
                session.new_table("incoming", SNAPSHOT)
                rows = options.interruption.until_tripped(read_batches(made.path, SNAPSHOT.names))
                upload(session, "incoming", rows)
                return self._move(session, statements.replaced(self.tables), target, None)

    def fold(
        self, base: Snapshot | None, changes: RunChanges, target: Path, options: ComputeOptions
    ) -> Snapshot:
        """Load the changes, and make the next generation of `base` in one transaction."""
        if base is not None and is_uid_file(base.path.name):
            return self.make(lambda path, _: fold(base, changes, path, options), target, options)
        record = base and self._record(base.path)
        fence = (record.number, record.token) if record else (0, "")
        with self.open(options.interruption) as session:
            self._create(session)
            session.new_table("incoming", CHANGE)
            states = changed_states(changes)
            upload(session, "incoming", options.interruption.until_tripped(states))
            moved = statements.folded(self.tables, changes.run, changes.recent_runs)
            return self._move(session, moved, target, fence)

    def as_file(self, snapshot: Snapshot, target: Path, options: ComputeOptions) -> Snapshot:
        """Write the rows of a generation to a file, in any order."""
        record = self._record(snapshot.path)
        with self.open(options.interruption) as session, session.transaction(is_steady=True):
            self._refuse_lost(session, record)
            found = session.batches(self.tables.rows_of(record.number))
            rows = (each.cast(SNAPSHOT) for each in found)
            write_batches(target, SNAPSHOT, options.interruption.until_tripped(rows))
        return replace(snapshot, path=target, digest=digest_of(target))

    def look_up(self, path: Path, uid: str) -> tuple[UidState, int] | None:
        """Return a uid's state in a generation, and the run since which it has it."""
        if is_uid_file(path.name):
            return look_up(path, uid)
        record = self._record(path)
        with self.open(Interruption()) as session, session.transaction():
            self._refuse_lost(session, record)
            session.new_table("asked", _UID)
            session.load("asked", pa.table({"uid": [uid.encode()]}, _UID))
            found = session.rows(self.tables.asked_of(record.number))
        return (UidState(found[0][0]), found[0][1]) if found else None

    def _create(self, session: DatabaseSession) -> None:
        """Make the tables if they do not exist."""
        if session.rows(self.tables.exist):
            return
        with session.transaction():
            session.lock_schema()
            session.execute(*self.tables.create(session.keys))

    def _move(
        self, session: DatabaseSession, moved: str, target: Path, fence: tuple[int, str] | None
    ) -> Snapshot:
        """Make a generation of the changes that the query `moved` finds; return it.

        The current generation must be `fence`, or, without one, have a smaller number.
        """
        number = int(target.stem)
        record = GenerationRecord(self.connection, self.tables.name, number, secrets.token_hex(8))
        path = record_path(target)
        with session.transaction():
            [(head, token)] = session.rows(self.tables.locked_head)
            if head == number and self._is_own(path, token):
                head, token = self._undo(session, head)
            if (head, token) != fence if fence else head >= number:
                raise self._moved()
            session.make_table("moved", moved)
            counts = self._counts(session, head, token)
            session.execute(
                *self.tables.apply(number),
                self.tables.enter(number, record.token, counts),
                self.tables.set_head(number, record.token),
                *self._forgotten(session),
            )
            # It is on the disk before the transaction ends: if this process dies between, the next
            # one recognises the generation as its own, and makes it once more.
            record.write(path)
        return Snapshot(path, Census(*counts), digest_of(path))

    def _is_own(self, path: Path, token: str) -> bool:
        """Return whether a process that died here has made the current generation."""
        known = GenerationRecord.read_if_any(path)
        return known is not None and known.token == token

    def _undo(self, session: DatabaseSession, number: int) -> tuple[int, str]:
        """Undo the current generation; return number and token of the one before."""
        session.execute(*self.tables.undo(number))
        before = [*session.rows(self.tables.generations), (0, "")][0]
        return before[0], before[1]

    def _counts(self, session: DatabaseSession, head: int, token: str) -> Sequence[int]:
        """Return the uids that are in, unknown and out once the changes of `moved` are made."""
        [before] = session.rows(self.tables.generation(head, token)) or [(0, 0, 0)]
        after = list(before)
        for was, state, count in session.rows(statements.MOVED_COUNTS):
            if was is not None:
                after[_place(was)] -= count
            if state is not None:
                after[_place(state)] += count
        return after

    def _forgotten(self, session: DatabaseSession) -> list[str]:
        """Return statements that drop generations which are no longer kept with the next one.

        One more is kept, so that the current one can always be undone.
        """
        known = session.rows(self.tables.generations)
        oldest = known[min(self.kept, len(known)) - 1] if known else None
        return self.tables.forget(oldest[0]) if oldest else []

    def _head(self, session: DatabaseSession) -> tuple[int, str]:
        found = session.rows(self.tables.head)
        return (found[0][0], found[0][1]) if found else (0, "")

    def _record(self, path: Path) -> GenerationRecord:
        """Read a record; raises `LedgerError` if it is of another database."""
        record = GenerationRecord.read(path)
        if (record.connection, record.tables) != (self.connection, self.tables.name):
            raise LedgerError(
                f"the snapshot {path} is in the database of `connections.{record.connection}`",
                hint="set `plan.connection` to that, or `cohortsync snapshot export` it there and "
                "import it here",
            )
        return record

    def _refuse_lost(self, session: DatabaseSession, record: GenerationRecord) -> None:
        """Raise `LedgerError` unless the database has a generation."""
        is_known = session.rows(self.tables.exist) and session.rows(
            self.tables.generation(record.number, record.token)
        )
        if not is_known:
            raise LedgerError(
                f"the database of `connections.{self.connection}` has no generation "
                f"{record.number} as it was made here: it was lost, or replaced from elsewhere",
                hint=LOST,
            )

    def _moved(self) -> LedgerError:
        return LedgerError(
            f"another machine has moved the snapshot in the database of "
            f"`connections.{self.connection}` (cohort {self.tables.name})",
            hint="mirror the cohort from one state folder only; nothing was changed",
        )


def _place(state: int) -> int:
    """Return where the count of a state is in that of a generation."""
    return 0 if state == UidState.IN else 2 if state == UidState.OUT else 1


def _census(states: dict[int, int]) -> Census:
    unknown = sum(states.get(int(state), 0) for state in UNKNOWN)
    return Census(states.get(int(UidState.IN), 0), unknown, states.get(int(UidState.OUT), 0))
