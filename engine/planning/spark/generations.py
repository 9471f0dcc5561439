"""Generations whose rows are in the files of a Delta table: a move is one commit."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import LedgerError
from engine.planning.database import statements
from engine.planning.database.generations import NO_HEAD, Head, Move, moved
from engine.planning.database.record import GenerationRecord
from engine.planning.spark.lake import ROWS, CohortFolder, folder_of
from engine.planning.spark.session import ClusterSession
from engine.snapshot.fold import RunChanges
from engine.snapshot.records import UNKNOWN, UidState


@dataclass(frozen=True, slots=True)
class LakeGenerations:
    """The generations of one cohort. Fulfils `Generations`."""

    cohort: CohortFolder

    @property
    def name(self) -> str:
        """The name of the cohort's folder."""
        return self.cohort.name

    def head(self, session: ClusterSession) -> Head:
        """Return the current generation."""
        del session  # Spark is not needed.
        return self.cohort.head()

    def holds(self, session: ClusterSession, number: int, token: str) -> bool:
        """Return whether a generation is still kept."""
        del session
        return self.cohort.holds(number, token)

    def rows_of(self, session: ClusterSession, number: int, token: str) -> str:
        """Return a temporary table that reads the files of a generation."""
        name = f"generation_{number}"
        session.show(name, ROWS, folder_of(number, token))
        return name

    def prepare(self, session: ClusterSession) -> None:
        """Make the table if there is none."""
        del session
        self.cohort.create()

    def replace(self, session: ClusterSession, move: Move) -> Sequence[int]:
        """Move to the rows of `incoming`."""
        head = self.cohort.head()
        if not move.is_own(head):
            move.check(head)
        return self._move(session, move, head, statements.rows_in("incoming"))

    def fold(self, session: ClusterSession, move: Move, changes: RunChanges) -> Sequence[int]:
        """Move to the rows of the generation before, with the changes of a run."""
        head = self.cohort.head()
        if not move.is_own(head):
            move.check(head)
        base = move.fence or NO_HEAD
        if base == NO_HEAD:
            session.new_table("base", ROWS)
        members = "base" if base == NO_HEAD else self.rows_of(session, *base)
        query = statements.folded(members, changes.run, changes.recent_runs)
        session.make_table("moved", query)
        return self._move(session, move, head, statements.after_move(members))

    def _move(self, session: ClusterSession, move: Move, head: Head, rows: str) -> Sequence[int]:
        """Write the rows of a query as a generation, and make it the current one after `head`."""
        number, token = move.record.number, move.record.token
        session.write(rows, folder_of(number, token))
        states = dict(session.rows(statements.states_of(self.rows_of(session, number, token))))
        # It is on the disk before the commit: if this process dies between, the next one recognises
        # the generation as its own, and makes it once more.
        move.record.write(move.path)
        if not self.cohort.commit(head, number, token):
            self.cohort.delete(folder_of(number, token))
            raise moved(move.place, move.record.tables)
        self._delete_unkept(move)
        unknown = sum(states.get(int(state), 0) for state in UNKNOWN)
        return states.get(int(UidState.IN), 0), unknown, states.get(int(UidState.OUT), 0)

    def _delete_unkept(self, move: Move) -> None:
        """Delete the files of generations without a record, and of those that died half-way."""
        try:
            records = [GenerationRecord.read(each) for each in move.path.parent.glob("*.json")]
        except LedgerError:
            return  # One is damaged: it is unknown which generation it stands for.
        kept = {(each.number, each.token) for each in records}
        for number, token in self.cohort.generations():
            if (number, token) not in kept:
                self.cohort.delete(folder_of(number, token))
