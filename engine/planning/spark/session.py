"""A session on Spark, whose temporary tables are Parquet files in the lake."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.errors import CohortSyncError, IncompleteError, LedgerError
from engine.planning.database.statements import columns_of
from engine.planning.spark.lake import CohortFolder, part_name, work_folder_at
from engine.planning.spark.starting import first_line
from engine.storage.computation import Interruption
from engine.storage.uid_parquet import LOST

if TYPE_CHECKING:  # Java is started only for what Spark itself has to do.
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from engine.planning.spark.process import SparkProcess

_LOST = ("PATH_NOT_FOUND", "FILE_NOT_EXIST", "CANNOT_READ_FILE_FOOTER", "FAILED_READ_FILE")
_CANCEL_SECONDS = 0.2
"""How long to wait before jobs are cancelled again."""
_AGAIN = "run the same command again: the snapshot is as it was"


@contextmanager
def cluster_session(
    cohort: CohortFolder,
    start: Callable[[], "SparkProcess"],
    interruption: Interruption,
    now: datetime,
) -> Iterator["ClusterSession"]:
    """Yield a session; what it has written is deleted after the block."""
    session = ClusterSession(start, cohort, now, interruption)
    try:
        yield session
    finally:
        session.close()


@dataclass
class ClusterSession:
    """Queries on Spark, and files in a folder of the lake. Fulfils `Session`.

    What runs on executors is SQL alone: they need neither Python nor PyArrow.
    """

    start: Callable[[], "SparkProcess"]
    """Returns the driver, which is started if it was not."""
    cohort: CohortFolder
    began: datetime
    """In UTC."""
    interruption: Interruption
    work: str = field(init=False)
    """The folder of the temporary tables; also the group of its jobs on Spark."""
    _process: "SparkProcess | None" = None
    _spark: "SparkSession | None" = None
    _files: dict[str, int] = field(default_factory=dict)
    """The number of files of each table that was loaded."""
    _unread: dict[str, pa.Schema] = field(default_factory=dict)
    """Tables that have files which no query has read."""
    _results: int = 0
    _idle: threading.Event = field(default_factory=threading.Event)
    """Set while no query runs."""

    def __post_init__(self) -> None:
        self.work = work_folder_at(self.began)
        self._idle.set()

    def new_table(self, name: str, columns: pa.Schema) -> None:
        """Make an empty temporary table."""
        self.load(name, columns.empty_table())

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a temporary table that has their columns."""
        if not self._files:
            self.cohort.delete_abandoned(self.began)
        number = self._files.get(table, 0)
        self.cohort.write(f"{self.work}/{table}/{part_name(number)}", rows)
        self._files[table] = number + 1
        self._unread[table] = rows.schema

    def make_table(self, name: str, query: str) -> None:
        """Make a temporary table of the rows of a query: it is computed once, on the executors."""
        folder = self._new_folder()
        with self._named():
            found = self._frame(query)
            found.write.parquet(self.cohort.url(folder))
            self._show(name, found.schema, folder)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""
        with self._named():
            return [tuple(row) for row in self._frame(query).collect()]

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a large result, which Spark writes to the lake: memory here does not grow."""
        folder = self._new_folder()
        self.write(query, folder)
        yield from self.cohort.read(folder)

    def write(self, query: str, folder: str) -> None:
        """Write the rows of a query to Parquet files of a folder of the cohort."""
        with self._named():
            self._frame(query).write.mode("overwrite").parquet(self.cohort.url(folder))

    def show(self, name: str, columns: pa.Schema, folder: str) -> None:
        """Let queries read the Parquet files of a folder of the cohort as a table."""
        with self._named():
            self._show(name, _definition(columns), folder)

    def _show(self, name: str, columns: "str | StructType", folder: str) -> None:
        found = self._driver().read.schema(columns).parquet(self.cohort.url(folder))
        found.createOrReplaceTempView(name)

    def _new_folder(self) -> str:
        self._results += 1
        return f"{self.work}/result_{self._results}"

    def analyze(self, table: str) -> None:
        """Do nothing: Spark knows the sizes of files."""

    @contextmanager
    def transaction(self, *, is_steady: bool = False) -> Iterator[None]:
        """Do nothing: files of generations do not change, and a move is one commit."""
        del is_steady
        yield

    def cancel(self) -> None:
        """End what another thread runs."""
        threading.Thread(target=self._cancel_until_idle, daemon=True).start()

    def _cancel_until_idle(self) -> None:
        # A job that Spark only plans cannot be cancelled yet.
        while self._process is not None:
            self._process.cancel(self.work)
            if self._idle.wait(_CANCEL_SECONDS):
                return

    def close(self) -> None:
        """Delete what it has written, except generations."""
        if self._files or self._results:
            self.cohort.delete(self.work)

    def _frame(self, query: str) -> "DataFrame":
        spark = self._driver()
        for name, columns in self._unread.items():
            self._show(name, _definition(columns), f"{self.work}/{name}")
        self._unread.clear()
        return spark.sql(query)

    def _driver(self) -> "SparkSession":
        """Return a session of Spark whose names are of this one alone; its jobs can be ended."""
        self.interruption.check()
        if self._process is None or self._spark is None:
            self._process = self.start()
            self._spark = self._process.session.newSession()
        self._process.set_group(self.work)
        self.interruption.check()
        return self._spark

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Raise errors of Spark as that of a stop, `IncompleteError` or `LedgerError`."""
        self._idle.clear()
        try:
            yield
        except CohortSyncError:
            raise
        except Exception as error:
            from engine.planning.spark.process import ERRORS  # noqa: PLC0415 - an extra

            if not isinstance(error, ERRORS):
                raise
            self.interruption.check()
            raise self._failed(error) from error
        finally:
            self._idle.set()

    def _failed(self, error: Exception) -> CohortSyncError:
        text = str(error)
        if self._process is not None and not self._process.is_alive:
            return IncompleteError("Spark has ended", hint=_AGAIN)
        if "OutOfMemoryError" in text:
            return IncompleteError(
                "Spark has too little memory for the comparison",
                hint="raise `plan.memory_megabytes`, or `spark.executor.memory` of a cluster",
            )
        if any(each in text for each in _LOST):
            return LedgerError(
                f"files of a snapshot in {self.cohort.place} are lost or damaged", hint=LOST
            )
        return IncompleteError(f"Spark: {first_line(error)[:300]}", hint=_AGAIN)


def _definition(columns: pa.Schema) -> str:
    """Return the definition of columns as Spark writes it."""
    return columns_of(columns).replace("bytea", "binary")
