"""What keeps the generations of a cohort's snapshot outside this machine, and their moves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from engine.errors import LedgerError
from engine.planning.database.record import GenerationRecord
from engine.planning.database.session import Session
from engine.snapshot.fold import RunChanges

S_contra = TypeVar("S_contra", bound=Session, contravariant=True)
Head = tuple[int, str]
"""Number and token of the current generation; (0, "") if there is none."""
NO_HEAD: Head = (0, "")


@dataclass(frozen=True, slots=True)
class Move:
    """A generation that is about to become the current one."""

    record: GenerationRecord
    path: Path
    """The file of the record."""
    place: str
    """Where the snapshot is, for messages."""
    fence: Head | None
    """The generation that it follows; None: any with a smaller number."""

    def is_own(self, head: Head) -> bool:
        """Return whether a process that died here has made the generation `head` for this one."""
        number, token = head
        if number != self.record.number:
            return False
        known = GenerationRecord.read_if_any(self.path)
        return known is not None and known.token == token

    def check(self, head: Head) -> None:
        """Raise `LedgerError` if another machine has made the current generation `head`."""
        if head != self.fence if self.fence else head[0] >= self.record.number:
            raise moved(self.place, self.record.tables)


class Generations(Protocol[S_contra]):
    """The generations of one cohort's snapshot. Raises as the session."""

    @property
    def name(self) -> str:
        """What distinguishes the cohort's tables."""

    def head(self, session: S_contra) -> Head:
        """Return the current generation."""

    def holds(self, session: S_contra, number: int, token: str) -> bool:
        """Return whether a generation is still kept."""

    def rows_of(self, session: S_contra, number: int, token: str) -> str:
        """Return what queries select a kept generation's uid, state and run from."""

    def prepare(self, session: S_contra) -> None:
        """Make what a first move needs."""

    def replace(self, session: S_contra, move: Move) -> Sequence[int]:
        """Move to the rows of the temporary table `incoming`, of the schema `SNAPSHOT`.

        Return the uids that are in, unknown and out. Raises `LedgerError` as `Move.check`.
        """

    def fold(self, session: S_contra, move: Move, changes: RunChanges) -> Sequence[int]:
        """Move to the current rows with the changes of a run; see `replace`.

        The temporary table `incoming` has them, in the schema `CHANGE`.
        """


def moved(place: str, cohort: str) -> LedgerError:
    """Return the error for a snapshot that another machine has moved."""
    return LedgerError(
        f"another machine has moved the snapshot in {place} (cohort {cohort})",
        hint="mirror the cohort from one state folder only; nothing was changed",
    )
