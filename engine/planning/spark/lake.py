"""The folder of one cohort in a lake, which is a Delta table: its files, its head, its moves.

    LAKE/COHORT/
        _delta_log/             which files the current version has; a commit is the move
        NNNNNN-TOKEN/*.parquet  a generation's rows: uid binary, unique; state smallint; run int
        work-TIME-TOKEN/        rows that are compared, and results, of one session

Each commit replaces all files by those of the next generation. It succeeds only if no other has
made the version with its number: of two machines that move a snapshot, one is refused.
"""

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs, parquet

from engine.errors import IncompleteError, LedgerError
from engine.planning.database.generations import NO_HEAD, Head
from engine.source.lake.table import one_line
from engine.source.sql.driver_errors import needing
from engine.source.urls import is_url, redacted

with needing("spark", 'plan.engine = "spark"'):
    from deltalake import DeltaTable, Schema
    from deltalake.exceptions import DeltaError, TableNotFoundError
    from deltalake.fs import DeltaStorageHandler
    from deltalake.transaction import AddAction, CommitProperties, RemoveAction

ROWS = pa.schema([("uid", pa.binary()), ("state", pa.int16()), ("run", pa.int32())])
"""The columns of the table."""
_CONFIGURATION: dict[str, str | None] = {
    # Other programs' `vacuum` must not delete the generations to which a cohort can be rolled back.
    "delta.deletedFileRetentionDuration": "interval 3650 days",
}
_GENERATION = re.compile(r"(\d{6,})-([0-9a-f]{16})")
_WORK = re.compile(r"work-(\d{8}T\d{6})-[0-9a-f]{16}")
_TIME = "%Y%m%dT%H%M%S"
_ABANDONED = timedelta(days=1)
"""The age at which the files of a session are those of a process that was killed."""
_BATCH_ROWS = 65_536
_ERRORS = (DeltaError, pa.ArrowException, OSError, ValueError)
_PANIC = "PanicException"
"""The name of what Rust's panics become, which no module of `deltalake` has."""


def folder_of(number: int, token: str) -> str:
    """Return the name of the folder of a generation."""
    return f"{number:06}-{token}"


def work_folder_at(now: datetime) -> str:
    """Return a name for the folder of a session that begins now, in UTC."""
    return f"work-{now.strftime(_TIME)}-{secrets.token_hex(8)}"


def part_name(number: int) -> str:
    """Return the name of a file with a part of a table's rows."""
    return f"{number:06}.parquet"


@dataclass
class CohortFolder:
    """The folder of one cohort. Raises `IncompleteError` if the lake cannot be used now."""

    lake: str
    """A URL, or the absolute path of a folder, that Spark and this machine reach."""
    name: str
    root: str = field(init=False)

    def __post_init__(self) -> None:
        self.root = f"{self.lake.rstrip('/')}/{self.name}"

    @property
    def place(self) -> str:
        """The lake, for messages."""
        return f"the lake {redacted(self.lake)}"

    def url(self, folder: str) -> str:
        """Return the URL by which Spark reads or writes a folder."""
        return f"{self.root if is_url(self.root) else f'file://{self.root}'}/{folder}"

    @cached_property
    def _files(self) -> fs.FileSystem:
        self._make_root()
        return fs.PyFileSystem(DeltaStorageHandler(self.root))

    def _make_root(self) -> None:
        if not is_url(self.root):
            Path(self.root).mkdir(mode=0o700, parents=True, exist_ok=True)

    def head(self) -> Head:
        """Return the current generation; raises `LedgerError` if others have written the table."""
        return self._head()[1]

    def _head(self) -> tuple[int, Head]:
        """Return the latest version, and the generation that its files are of."""
        with self._named():
            try:
                table = DeltaTable(self.root)
            except TableNotFoundError:
                return -1, NO_HEAD
            paths = pa.table(table.get_add_actions())["path"].to_pylist()
        folders = {path.partition("/")[0] for path in paths}
        if not folders:
            return table.version(), NO_HEAD
        found = _GENERATION.fullmatch(folders.pop())
        if found is None or folders:
            raise LedgerError(
                f"another program has changed the Delta table {redacted(self.root)}",
                hint=f"restore it to a version before version {table.version()}",
            )
        return table.version(), (int(found[1]), found[2])

    def create(self) -> None:
        """Make the table if there is none."""
        if self._head()[0] >= 0:
            return
        with self._named():
            self._make_root()
            try:
                DeltaTable.create(self.root, ROWS, configuration=_CONFIGURATION)
            except DeltaError:
                if self._head()[0] < 0:  # Otherwise another process has just made it.
                    raise

    def commit(self, before: Head, number: int, token: str) -> bool:
        """Let the table have the files of a generation, and no others; return whether it does.

        It has not if another process has moved the table since its head was `before`.
        """
        version, head = self._head()
        if head != before:
            return False
        with self._named():
            actions = [_added(each) for each in self._parquet_files(folder_of(number, token))]
            properties = CommitProperties({"cohortsync.generation": number}, max_commit_retries=0)
            table = DeltaTable(self.root, version=version)
            try:
                table.create_write_transaction(
                    actions, "overwrite", Schema.from_arrow(ROWS), commit_properties=properties
                )
            except DeltaError:
                # The reply to a commit that was made may have been lost.
                found, head = self._head()
                if found == version:
                    raise
                return head == (number, token)
        return True

    def holds(self, number: int, token: str) -> bool:
        """Return whether the files of a generation are there."""
        with self._named():
            return bool(self._parquet_files(folder_of(number, token)))

    def generations(self) -> list[Head]:
        """Return the generations whose files are there, and those that were not completed."""
        found = (_GENERATION.fullmatch(each) for each in self._folders())
        return [(int(each[1]), each[2]) for each in found if each]

    def _folders(self) -> list[str]:
        with self._named():
            found = self._files.get_file_info(fs.FileSelector("", allow_not_found=True))
        return [each.base_name for each in found if each.type == fs.FileType.Directory]

    def _parquet_files(self, folder: str) -> list[Any]:
        found = self._files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        files = (each for each in found if each.base_name.endswith(".parquet"))
        return sorted(
            (each for each in files if not each.base_name.startswith((".", "_"))),
            key=lambda each: each.path,
        )

    def write(self, path: str, rows: pa.Table) -> None:
        """Write a Parquet file."""
        with self._named():
            self._make_root()
            with self._files.open_output_stream(path) as file:
                parquet.write_table(rows, file)

    def read(self, folder: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the Parquet files of a folder, in the order of their names."""
        with self._named():
            for each in self._parquet_files(folder):
                with self._files.open_input_file(each.path) as file:
                    yield from parquet.ParquetFile(file).iter_batches(_BATCH_ROWS)

    def delete(self, folder: str) -> None:
        """Delete a folder, if that is possible: another process tries again."""
        with suppress(*_ERRORS):
            self._files.delete_dir(folder)
        if not is_url(self.root):  # There, folders are left without files.
            shutil.rmtree(Path(self.root, folder), ignore_errors=True)
            with suppress(OSError):
                Path(self.root).rmdir()  # If nothing else is in it.

    def delete_abandoned(self, now: datetime) -> None:
        """Delete what sessions whose processes were killed have left a day ago."""
        for each in self._folders():
            found = _WORK.fullmatch(each)
            if found and now - datetime.strptime(found[1] + "+0000", f"{_TIME}%z") > _ABANDONED:
                self.delete(each)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Raise `IncompleteError` for an error of the storage or of `deltalake`."""
        try:
            yield
        except _ERRORS as error:
            raise self._failed(error) from error
        except BaseException as error:
            if type(error).__name__ != _PANIC:
                raise
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> IncompleteError:
        return IncompleteError(
            f"{self.place} cannot be used: {one_line(error)}",
            hint="run the same command again: the snapshot is as it was; for object storage, "
            "credentials come from the environment, such as AWS_ACCESS_KEY_ID and AWS_REGION",
        )


def _added(file: Any) -> AddAction | RemoveAction:  # noqa: ANN401 - PyArrow ships no types
    return AddAction(
        path=file.path,
        size=file.size,
        partition_values={},
        modification_time=(file.mtime_ns or 0) // 1_000_000,
        data_change=True,
        stats="{}",
    )
