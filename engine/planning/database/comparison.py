"""One comparison of an export with a snapshot, in a database."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import CohortSyncError, LedgerError
from engine.model.cohort import Operation
from engine.planning.comparison import ADDS, OPERATION
from engine.planning.conditions import REJECTIONS, Conditions, Resend
from engine.planning.database import statements
from engine.planning.database.session import Session
from engine.planning.database.uploading import TableList
from engine.planning.differences import CHANGES
from engine.planning.operation_file import OperationFile
from engine.planning.staging import EXPORT
from engine.snapshot.records import (
    Comparison,
    Member,
    PlannedOperation,
    Snapshot,
    Staged,
    UidList,
    UidState,
)
from engine.storage.computation import ComputeOptions
from engine.storage.paths import operation_path
from engine.storage.uid_parquet import LOST, open_writer, write_batches

_RESENT = pa.schema([("run", pa.int32()), ("uid", pa.binary())])


class DatabaseComparison:
    """A comparison in one session. Fulfils `EngineComparison`."""

    def __init__(self, session: Session, base_table: Callable[[Snapshot | None], str]) -> None:
        """`base_table` returns the table of the rows of a snapshot."""
        self._session = session
        self._base_table = base_table
        self._lists: list[TableList] = []

    def new_list(self) -> TableList:
        """Make a temporary table for rows of an export or a list."""
        name = f"list_{len(self._lists)}"
        self._session.new_table(name, EXPORT)
        self._lists.append(TableList(self._session, name))
        return self._lists[-1]

    def compare(
        self,
        staged: Staged,
        base: Snapshot | None,
        folder: Path,
        options: ComputeOptions,
        conditions: Conditions,
    ) -> Comparison:
        """Compare, and write the files of the operations into `folder`."""
        try:
            with (
                options.interruption.calling(self._session.cancel),
                self._session.transaction(is_steady=True),
                ExitStack() as files,
            ):
                return self._compare(staged, base, folder, conditions, files)
        except CohortSyncError:
            options.interruption.check()  # A stop has ended the statement that failed.
            raise

    def _compare(
        self,
        staged: Staged,
        base: Snapshot | None,
        folder: Path,
        conditions: Conditions,
        files: ExitStack,
    ) -> Comparison:
        session = self._session
        table = self._base_table(base)
        session.new_table("rejections", REJECTIONS)
        session.load("rejections", conditions.rejections)
        removals = conditions.removals
        excluded = conditions.excluded and conditions.excluded.spool
        lists = [_table(staged.spool), _table(excluded or self.new_list())]
        for each in (*lists, "rejections"):
            session.analyze(each)
        if removals is None:
            session.make_table("desired", statements.desired(*lists))
            removed = statements.removes(table, conditions)
        else:
            session.make_table("said", statements.said(lists[0], _table(removals.spool)))
            session.analyze("said")
            session.make_table("desired", statements.said_to_add(lists[1]))
            removed = statements.said_to_remove(table, conditions)
        session.analyze("desired")
        [(uids, rows)] = session.rows(statements.DESIRED_COUNTS)
        to_add = OperationFile(operation_path(folder, Operation.ADD), ADDS, files)
        for batch in session.batches(statements.adds(table, conditions)):
            to_add.write(batch.cast(CHANGES))
        to_remove = OperationFile(operation_path(folder, Operation.REMOVE), OPERATION, files)
        lost = 0
        for batch in session.batches(removed):
            to_remove.write(batch.cast(CHANGES))
            lost += pc.sum(pc.equal(batch["was"], int(UidState.IN))).as_py() or 0
        adds, removes = to_add.finish(), to_remove.finish()
        unchanged = uids - adds.planned - adds.known
        left_out, duplicate = staged.uids - rows, rows - uids
        if removals is not None:
            [(away, left_out)] = session.rows(statements.said_counts(table))
            unchanged += away
            changed = adds.planned + adds.known + removes.planned + removes.known
            duplicate = staged.uids + removals.uids - changed - unchanged - left_out
        elif base is not None and base.census.members != unchanged + lost:
            raise LedgerError(
                f"the database has {unchanged + lost:,} members in the snapshot that was made with "
                f"{base.census.members:,}: another program has changed it",
                hint=LOST,
            )
        resend = conditions.resend if base is not None else None
        resends, through = self._resend(table, folder, resend)
        return Comparison(adds, removes, unchanged, duplicate, resends, through, left_out)

    def _resend(
        self, table: str, folder: Path, resend: Resend | None
    ) -> tuple[PlannedOperation, Member | None]:
        """Write the uids to be resent; return them, and the last member of this round."""
        path = operation_path(folder, Operation.RESEND)
        if resend is None:
            write_batches(path, OPERATION, [])
            return PlannedOperation(path=path), None
        count, last = 0, None
        if resend.after is not None:
            self._session.new_table("resent", _RESENT)
            after = {"run": [resend.after.run], "uid": [resend.after.uid]}
            self._session.load("resent", pa.table(after, _RESENT))
            count, last = self._write_resends(path, table, resend, goes_on=True)
        if not count:
            # A round that ended exactly with the last member has none left: the next begins.
            count, last = self._write_resends(path, table, resend, goes_on=False)
        return PlannedOperation(count, path=path), last if count == resend.most else None

    def _write_resends(
        self, path: Path, table: str, resend: Resend, *, goes_on: bool
    ) -> tuple[int, Member | None]:
        """Write the uids of one round; return their number, and the last member."""
        count, last = 0, None
        query = statements.resends(table, resend.most, goes_on=goes_on)
        with open_writer(path, OPERATION) as writer:
            for batch in self._session.batches(query):
                writer.write(batch.cast(OPERATION))
                count += len(batch)
                if len(batch):
                    last = Member(batch["was_run"][-1].as_py(), batch["uid"][-1].as_py())
        return count, last


def _table(rows: UidList) -> str:
    """Return the table of a list that `new_list` has made."""
    if not isinstance(rows, TableList):
        raise TypeError("rows that are compared in a database are in a table of it")
    return rows.table
