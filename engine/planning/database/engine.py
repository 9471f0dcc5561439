"""The comparison outside this machine, and snapshots that are kept there.

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
from typing import Generic, TypeVar

import pyarrow as pa

from engine.errors import LedgerError
from engine.planning.database import statements
from engine.planning.database.comparison import DatabaseComparison
from engine.planning.database.generations import NO_HEAD, Generations, Head, Move, moved
from engine.planning.database.record import GenerationRecord
from engine.planning.database.session import Session
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
S = TypeVar("S", bound=Session)


@dataclass(frozen=True, slots=True)
class ExternalEngine(Generic[S]):
    """Compares in a database or cluster, and keeps snapshots there. Fulfils `PlanEngine`."""

    open: Callable[[Interruption], AbstractContextManager[S]]
    """Opens a session, which a stop cancels."""
    connection: str
    """The name of the connection."""
    place: str
    """Where the snapshots are, for messages."""
    generations: Generations[S]

    def try_out(self) -> None:
        """Make and read a temporary table; raises as the session."""
        with self.open(Interruption()) as session, session.transaction():
            session.new_table("asked", _UID)
            session.rows(statements.COUNT_ASKED)

    def latest(self) -> int | None:
        """Return the number of the current generation there; None if there is none."""
        with self.open(Interruption()) as session:
            number, _ = self.generations.head(session)
        return number or None

    def verify(self, snapshot: Snapshot, *, is_thorough: bool = False) -> None:
        """Raise `LedgerError` unless the record is unchanged, and its generation is kept.

        If it `is_thorough`, the uids in each state are counted.
        """
        verify(snapshot)
        if is_uid_file(snapshot.path.name):
            return  # Of a time when uids were compared on this machine.
        record = self._record(snapshot.path)
        with self.open(Interruption()) as session, self._reading(session, record) as rows:
            if not is_thorough:
                return
            found = _census(dict(session.rows(statements.states_of(rows))))
        if found != snapshot.census:
            raise LedgerError(
                f"generation {record.number} in {self.place} is corrupt: it has {found.total:,} "
                "uids in other states than it was made with",
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
            yield DatabaseComparison(
                session, partial(self._base_table, session), partial(self._check, session)
            )

    def _base_table(self, session: S, base: Snapshot | None) -> str:
        """Return the table of the rows that an export is compared with."""
        if base is not None and not is_uid_file(base.path.name):
            self._check(session, base)
            return self._rows_of(session, self._record(base.path))
        session.new_table("base", SNAPSHOT)
        if base is not None:
            upload(session, "base", read_batches(base.path, SNAPSHOT.names))
        return "base"

    def _check(self, session: S, base: Snapshot | None) -> None:
        """Raise `LedgerError` if another machine has moved a snapshot that is kept there."""
        if base is None or is_uid_file(base.path.name):
            return
        if self.generations.head(session) != _head_of(self._record(base.path)):
            raise moved(self.place, self.generations.name)

    def make(
        self,
        maker: Callable[[Path, Interruption], Snapshot],
        target: Path,
        options: ComputeOptions,
    ) -> Snapshot:
        """Load the rows that `maker` writes to a file, and move the snapshot to them.

        Raises `LedgerError` if there is a generation of that number or a later one, which another
        machine has made.
        """
        with work_folder(target.parent, TemporaryPurpose.IMPORT) as folder:
            made = maker(folder / TemporaryName.ROWS.format(0), options.interruption)
            with self.open(options.interruption) as session:
                self.generations.prepare(session)
                session.new_table("incoming", SNAPSHOT)
                rows = options.interruption.until_tripped(read_batches(made.path, SNAPSHOT.names))
                upload(session, "incoming", rows)
                move = self._move_to(target, None)
                return _made(move, self.generations.replace(session, move))

    def fold(
        self, base: Snapshot | None, changes: RunChanges, target: Path, options: ComputeOptions
    ) -> Snapshot:
        """Load the changes, and make the next generation of `base` in one transaction."""
        if base is not None and is_uid_file(base.path.name):
            return self.make(lambda path, _: fold(base, changes, path, options), target, options)
        move = self._move_to(target, _head_of(self._record(base.path)) if base else NO_HEAD)
        with self.open(options.interruption) as session:
            self.generations.prepare(session)
            session.new_table("incoming", CHANGE)
            states = changed_states(changes)
            upload(session, "incoming", options.interruption.until_tripped(states))
            return _made(move, self.generations.fold(session, move, changes))

    def as_file(self, snapshot: Snapshot, target: Path, options: ComputeOptions) -> Snapshot:
        """Write the rows of a generation to a file, in any order."""
        record = self._record(snapshot.path)
        with self.open(options.interruption) as session, self._reading(session, record) as table:
            found = session.batches(statements.rows_in(table))
            rows = (each.cast(SNAPSHOT) for each in found)
            write_batches(target, SNAPSHOT, options.interruption.until_tripped(rows))
        return replace(snapshot, path=target, digest=digest_of(target))

    def look_up(self, path: Path, uid: str) -> tuple[UidState, int] | None:
        """Return a uid's state in a generation, and the run since which it has it."""
        if is_uid_file(path.name):
            return look_up(path, uid)
        record = self._record(path)
        with self.open(Interruption()) as session:
            session.new_table("asked", _UID)
            session.load("asked", pa.table({"uid": [uid.encode()]}, _UID))
            with self._reading(session, record) as rows:
                found = session.rows(statements.asked_of(rows))
        return (UidState(found[0][0]), found[0][1]) if found else None

    @contextmanager
    def _reading(self, session: S, record: GenerationRecord) -> Iterator[str]:
        """Yield what queries select the rows of a generation from; it does not move meanwhile.

        Raises `LedgerError` if the generation is not kept.
        """
        with session.transaction(is_steady=True):
            self._refuse_lost(session, record)
            head = self.generations.head(session)
            yield self._rows_of(session, record)
            # Not every database can show each query the same state.
            if self.generations.head(session) != head:
                raise moved(self.place, self.generations.name)

    def _move_to(self, target: Path, fence: Head | None) -> Move:
        token = secrets.token_hex(8)
        name = self.generations.name
        record = GenerationRecord(self.connection, name, int(target.stem), token)
        return Move(record, record_path(target), self.place, fence)

    def _rows_of(self, session: S, record: GenerationRecord) -> str:
        return self.generations.rows_of(session, record.number, record.token)

    def _record(self, path: Path) -> GenerationRecord:
        """Read a record; raises `LedgerError` if it is of another connection or cohort."""
        record = GenerationRecord.read(path)
        if (record.connection, record.tables) != (self.connection, self.generations.name):
            raise LedgerError(
                f"the snapshot {path} was made with `connections.{record.connection}`",
                hint="set `plan.connection` to that, or `cohortsync snapshot export` it there and "
                "import it here",
            )
        return record

    def _refuse_lost(self, session: S, record: GenerationRecord) -> None:
        """Raise `LedgerError` unless a generation is kept."""
        if not self.generations.holds(session, record.number, record.token):
            raise LedgerError(
                f"{self.place} has no generation {record.number} as it was made here: it was lost, "
                "or replaced from elsewhere",
                hint=LOST,
            )


def _head_of(record: GenerationRecord) -> Head:
    return record.number, record.token


def _made(move: Move, counts: Sequence[int]) -> Snapshot:
    return Snapshot(move.path, Census(*counts), digest_of(move.path))


def _census(states: dict[int, int]) -> Census:
    unknown = sum(states.get(int(state), 0) for state in UNKNOWN)
    return Census(states.get(int(UidState.IN), 0), unknown, states.get(int(UidState.OUT), 0))
