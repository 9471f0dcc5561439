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
from engine.planning.database.query_staging import stage_result
from engine.planning.database.query_statements import STAGED
from engine.planning.database.session import QuerySession, Session
from engine.planning.database.uploading import TableList
from engine.planning.differences import CHANGES
from engine.planning.operation_file import OperationFile
from engine.planning.query_export import QueryExport
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
from engine.storage.computation import ComputeOptions, Interruption
from engine.storage.paths import operation_path
from engine.storage.uid_parquet import LOST, open_writer, write_batches

_RESENT = pa.schema([("run", pa.int32()), ("uid", pa.binary())])


class DatabaseComparison:
    """A comparison in one session. Fulfils `EngineComparison`."""

    def __init__(
        self,
        session: Session,
        base_table: Callable[[Snapshot | None], str],
        check: Callable[[Snapshot | None], None],
    ) -> None:
        """`base_table` returns the table of the rows of a snapshot; `check` refuses a moved one."""
        self._session = session
        self._base_table = base_table
        self._check = check
        self._lists: list[TableList] = []

    def new_list(self) -> TableList:
        """Make a temporary table for rows of an export or a list."""
        return self._new_list(EXPORT)

    def _new_list(self, columns: pa.Schema) -> TableList:
        name = f"cohortsync_list_{len(self._lists)}"  # It hides a table of this name.
        self._session.new_table(name, columns)
        self._lists.append(TableList(self._session, name))
        return self._lists[-1]

    def stage_query(self, export: QueryExport, interruption: Interruption) -> Staged:
        """Let the database evaluate a query into a temporary table; raises as `stage_result`."""
        session = self._session
        if not isinstance(session, QuerySession):
            raise TypeError("the engine evaluates no queries")
        rows = self._new_list(STAGED)
        try:
            with interruption.calling(session.cancel):
                return stage_result(session, export, rows.table, interruption)
        except CohortSyncError:
            interruption.check()  # A stop has ended the statement that failed.
            raise

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
            with options.interruption.calling(self._session.cancel), ExitStack() as files:
                table = self._make_tables(staged, base, conditions)
                with self._session.transaction(is_steady=True):
                    found = self._compare(table, staged, base, folder, conditions, files)
                    # Not every database can show each query the same state.
                    self._check(base)
                return found
        except CohortSyncError:
            options.interruption.check()  # A stop has ended the statement that failed.
            raise

    def _make_tables(self, staged: Staged, base: Snapshot | None, conditions: Conditions) -> str:
        """Make the temporary tables of the comparison; return the table of the snapshot's rows."""
        session = self._session
        table = self._base_table(base)
        session.new_table("rejections", REJECTIONS)
        session.load("rejections", conditions.rejections)
        if conditions.resend is not None and conditions.resend.after is not None:
            session.new_table("resent", _RESENT)
            last = conditions.resend.after
            session.load("resent", pa.table({"run": [last.run], "uid": [last.uid]}, _RESENT))
            session.analyze("resent")
        excluded = conditions.excluded and conditions.excluded.spool
        lists = [_table(staged.spool), _table(excluded or self.new_list())]
        for each in (*lists, "rejections"):
            session.analyze(each)
        if conditions.removals is None:
            session.make_table("desired", statements.desired(*lists))
        else:
            removals = _table(conditions.removals.spool)
            session.make_table("said", statements.said(lists[0], removals))
            session.analyze("said")
            session.make_table("desired", statements.said_to_add(lists[1]))
        session.analyze("desired")
        return table

    def _compare(  # noqa: PLR0913, PLR0917 - what `compare` was given
        self,
        table: str,
        staged: Staged,
        base: Snapshot | None,
        folder: Path,
        conditions: Conditions,
        files: ExitStack,
    ) -> Comparison:
        session = self._session
        [(uids, rows)] = session.rows(statements.DESIRED_COUNTS)
        to_add = OperationFile(operation_path(folder, Operation.ADD), ADDS, files)
        for batch in session.batches(statements.adds(table, conditions)):
            to_add.write(batch.cast(CHANGES))
        to_remove = OperationFile(operation_path(folder, Operation.REMOVE), OPERATION, files)
        lost = 0
        is_whole = conditions.removals is None
        removed = statements.removes if is_whole else statements.said_to_remove
        for batch in session.batches(removed(table, conditions)):
            to_remove.write(batch.cast(CHANGES))
            lost += pc.sum(pc.equal(batch["was"], int(UidState.IN))).as_py() or 0
        adds, removes = to_add.finish(), to_remove.finish()
        unchanged = uids - adds.planned - adds.known
        left_out, duplicate = staged.uids - rows, rows - uids
        if conditions.removals is not None:
            [(away, left_out)] = session.rows(statements.said_counts(table))
            unchanged += away
            changed = adds.planned + adds.known + removes.planned + removes.known
            named = staged.uids + conditions.removals.uids
            duplicate = named - changed - unchanged - left_out
        elif base is not None and base.census.members != unchanged + lost:
            self._check(base)
            raise LedgerError(
                f"there are {unchanged + lost:,} members in the snapshot that was made with "
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
