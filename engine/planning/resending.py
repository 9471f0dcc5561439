"""Selects the members that are sent again: the newest first, then by uid."""

import pyarrow as pa
import pyarrow.compute as pc

from engine.planning.conditions import Resend
from engine.planning.differences import MEMBERS
from engine.snapshot.records import Member

_ORDER = [("run", "descending"), ("uid", "ascending")]
_FEW = 100_000
"""Rows that are collected, at least, before those that are too many are dropped."""


class ResendSelection:
    """The slice of the members that a plan sends again, from members in any order."""

    def __init__(self, resend: Resend) -> None:
        self._most = resend.most
        self._after = resend.after
        self._round = _First(resend.most)
        self._rest = _First(resend.most) if resend.after else self._round

    def add(self, members: pa.RecordBatch) -> None:
        """Add members, of the schema `MEMBERS`."""
        self._round.add(members)
        if self._after is not None:
            self._rest.add(members.filter(_follows(members, self._after)))

    def finish(self) -> tuple[pa.Table, Member | None]:
        """Return the slice, in order, and the last member of it; None if the round ends with it."""
        # A round that ended exactly with the last member has none left: the next round begins.
        rows = self._rest.rows() or self._round.rows()
        return rows, _last(rows) if len(rows) == self._most else None


class _First:
    """The first rows in the order of sending."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows = MEMBERS.empty_table()
        self._worst: Member | None = None
        """The last of the rows, if there are enough: those after it are not needed."""

    def add(self, members: pa.RecordBatch) -> None:
        if self._worst is not None:
            members = members.filter(pc.invert(_follows(members, self._worst)))
        self._rows = pa.concat_tables([self._rows, pa.table(members)])
        if len(self._rows) >= 2 * self._most + _FEW:
            self._worst = _last(self.rows())

    def rows(self) -> pa.Table:
        """Return the first rows, in order."""
        self._rows = self._rows.take(pc.sort_indices(self._rows, _ORDER)[: self._most])
        return self._rows


def _follows(members: pa.RecordBatch, member: Member) -> pa.BooleanArray:
    """Return which members come after one in the order of sending."""
    is_later = pc.and_(
        pc.equal(members["run"], member.run),
        pc.greater(members["uid"], pa.scalar(member.uid, pa.binary())),
    )
    return pc.or_(pc.less(members["run"], member.run), is_later)


def _last(rows: pa.Table) -> Member:
    return Member(rows["run"][-1].as_py(), rows["uid"][-1].as_py())
