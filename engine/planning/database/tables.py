"""Generations whose rows are in tables of a database: a move is one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.planning.database import statements
from engine.planning.database.generations import NO_HEAD, Head, Move, moved
from engine.planning.database.session import DatabaseSession
from engine.planning.database.statements import Tables
from engine.snapshot.fold import RunChanges
from engine.snapshot.records import UidState


@dataclass(frozen=True, slots=True)
class TableGenerations:
    """The generations of one cohort. Fulfils `Generations`."""

    tables: Tables
    kept: int
    """The number of generations that the ledger keeps."""

    @property
    def name(self) -> str:
        """What the names of the tables end with."""
        return self.tables.name

    def head(self, session: DatabaseSession) -> Head:
        """Return the current generation."""
        return self._head(session) if session.rows(self.tables.exist) else NO_HEAD

    def _head(self, session: DatabaseSession) -> Head:
        [(number, token)] = session.rows(self.tables.head) or [NO_HEAD]
        return number, token

    def holds(self, session: DatabaseSession, number: int, token: str) -> bool:
        """Return whether a generation is still kept."""
        if not session.rows(self.tables.exist):
            return False
        return bool(session.rows(self.tables.generation(number, token)))

    def rows_of(self, session: DatabaseSession, number: int, token: str) -> str:
        """Return the table of the current rows, or a query that undoes later changes."""
        if self.head(session) == (number, token):
            return self.tables.members
        return f"({self.tables.rows_of(number)})"

    def prepare(self, session: DatabaseSession) -> None:
        """Make the tables if they do not exist."""
        if session.rows(self.tables.exist):
            return
        with session.making_tables():
            session.execute(*self.tables.create(session.keys))

    def replace(self, session: DatabaseSession, move: Move) -> Sequence[int]:
        """Move to the rows of `incoming`."""
        return self._move(session, move, statements.replaced(self.tables.members))

    def fold(self, session: DatabaseSession, move: Move, changes: RunChanges) -> Sequence[int]:
        """Move to the current rows with the changes of a run."""
        members = self.tables.members
        return self._move(
            session, move, statements.folded(members, changes.run, changes.recent_runs)
        )

    def _move(self, session: DatabaseSession, move: Move, changes: str) -> Sequence[int]:
        """Make the changes that a query finds, in one transaction."""
        number, token = move.record.number, move.record.token
        session.new_table("moved", statements.MOVED)  # In a warehouse, making a table commits.
        with session.transaction():
            session.execute(self.tables.lock_head)
            current = head = self._head(session)
            if move.is_own(current):
                head = self._undo(session, current[0])
            move.check(head)
            names = ", ".join(statements.MOVED.names)
            session.execute(f"insert into moved ({names}) {changes}")
            session.analyze("moved")
            counts = self._counts(session, head)
            session.execute(
                *self.tables.apply(number),
                self.tables.enter(number, token, counts),
                self.tables.set_head(number, token, current[1]),
                *self._forgotten(session),
            )
            if self._head(session) != (number, token):
                raise moved(move.place, self.name)
            # It is on the disk before the transaction ends: if this process dies between, the next
            # one recognises the generation as its own, and makes it once more.
            move.record.write(move.path)
        return counts

    def _undo(self, session: DatabaseSession, number: int) -> Head:
        """Undo the current generation; return the one before."""
        session.execute(*self.tables.undo(number))
        before = [*session.rows(self.tables.generations), NO_HEAD][0]
        return before[0], before[1]

    def _counts(self, session: DatabaseSession, head: Head) -> Sequence[int]:
        """Return the uids that are in, unknown and out once the changes of `moved` are made."""
        [before] = session.rows(self.tables.generation(*head)) or [(0, 0, 0)]
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


def _place(state: int) -> int:
    """Return where the count of a state is in that of a generation."""
    return 0 if state == UidState.IN else 2 if state == UidState.OUT else 1
