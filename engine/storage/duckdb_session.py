"""A DuckDB session with limits, which can be stopped and has no access to paths."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.errors import CohortSyncError, ConfigError, IncompleteError, LedgerError, StateFullError
from engine.storage.computation import Compute, ComputeOptions, Interruption, compute_in_thread
from engine.storage.files import DESCRIPTORS, is_full, name_of, reading_file, unwritable
from engine.storage.paths import TemporaryPurpose
from engine.storage.settings import PlanningSettings
from engine.storage.temporary import temporary_folder
from engine.storage.uid_parquet import BATCH_ROWS, LOST

if TYPE_CHECKING:
    import duckdb

# Until nothing uses DuckDB any more.
__all__ = ["Compute", "Interruption", "QueryOptions", "compute_in_thread", "open_session"]
QueryOptions = ComputeOptions


@dataclass(slots=True)
class Session:
    """An open DuckDB."""

    _connection: "duckdb.DuckDBPyConnection"
    _interruption: Interruption
    _files: ExitStack
    """Keeps each file open until the session ends, so that its descriptor is not reused."""
    _spill: str
    """The folder to spill into, by the name that DuckDB uses."""
    _where: Path
    """The parent of that folder."""
    _settings: PlanningSettings
    _opened: dict[Path, int] = field(default_factory=dict)

    def table(self, path: Path, *, has_row_numbers: bool = False) -> str:
        """Return the SQL expression for a Parquet file; raises `LedgerError` if it can't be opened.

        With `has_row_numbers` it has a column `file_row_number`, from 0.
        """
        numbers = ", file_row_number = true" if has_row_numbers else ""
        return f"read_parquet('{name_of(self._descriptor(path))}'{numbers})"

    def share(self, path: Path, shares: int, which: int, *, has_row_numbers: bool = False) -> str:
        """Return the SQL expression for the rows of a file whose uids belong to one share."""
        part = f" WHERE hash(uid) % {shares} = {which}" if shares > 1 else ""
        return f"(FROM {self.table(path, has_row_numbers=has_row_numbers)}{part})"

    def put(self, name: str, rows: pa.Table) -> None:
        """Make a table from rows in memory."""
        with self._readable_errors():
            self._connection.register("given", rows)
            self._connection.execute(f'CREATE TEMP TABLE "{name}" AS FROM given')
            self._connection.unregister("given")

    def rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[pa.RecordBatch]:
        """Yield a query's result in batches of at most `BATCH_ROWS` rows.

        Raises the error of a stop, `StateFullError` if the disk is full, `IncompleteError` if
        the memory limit is too small, `LedgerError` for a file that can't be read.
        """
        with self._readable_errors():
            # With parameters, DuckDB keeps the whole result in memory.
            found = self._connection.sql(query, params=parameters or None)
            batches = iter(found.to_arrow_reader(BATCH_ROWS))
        while True:
            self._interruption.check()
            with self._readable_errors():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _descriptor(self, path: Path) -> int:
        if path not in self._opened:
            try:
                self._opened[path] = self._files.enter_context(reading_file(path))
            except OSError as error:
                raise LedgerError(f"{path} cannot be read: {error.strerror}", hint=LOST) from error
        return self._opened[path]

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Translate DuckDB's errors; while rows are fetched, DuckDB raises Arrow's errors."""
        import duckdb  # noqa: PLC0415 - large, and only plans need it

        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError, MemoryError) as error:
            self._interruption.check()
            translated = self._translated(error)
            if translated is None:
                raise
            raise translated from error

    def _translated(self, error: Exception) -> CohortSyncError | None:
        """Return the error with a hint for the user; None for a bug."""
        text = str(error)
        # DuckDB reports a full disk like too little memory, but names this setting.
        is_limit = "max_temp_directory_size" in text
        if is_limit or f"{self._spill}/" in text:
            # The system's error ends the message.
            reason = "the disk is full" if is_limit else text.partition("\n")[0].rpartition(": ")[2]
            return StateFullError(
                f"the plan cannot be spilled into {self._where}: {reason}",
                hint="make room there, or name another disk by `plan.spill_dir`",
            )
        if isinstance(error, MemoryError) or text.startswith("Out of Memory Error"):
            return IncompleteError(
                f"the plan does not fit into {self._settings.memory_megabytes} MB",
                hint="raise `plan.memory_megabytes` and the limits on memory (`ulimit -v`), or "
                "lower `plan.threads`",
            )
        for path, descriptor in self._opened.items():
            if re.search(rf"{name_of(descriptor)}\b", text):
                return LedgerError(f"{path} cannot be read: it is damaged", hint=LOST)
        return None


@contextmanager
def open_session(options: QueryOptions, folder: Path) -> Iterator[Session]:
    """Open DuckDB with the limits; it spills below `folder` unless `spill_dir` is set.

    Raises `ConfigError` if it can't spill, the error of a stop, and the errors of the methods of
    `Session`.
    """
    import duckdb  # noqa: PLC0415 - large, and only plans need it

    settings, interruption = options.settings, options.interruption
    where = Path(settings.spill_dir) if settings.spill_dir else folder
    with ExitStack() as files:
        try:
            spill = files.enter_context(temporary_folder(where, TemporaryPurpose.SPILL))
            descriptor = os.open(spill, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if is_full(error):
                raise unwritable(where, error) from error
            raise ConfigError(
                f"`plan.spill_dir`: {where} cannot be written ({error.strerror})",
                hint="name a folder on a disk with room",
            ) from error
        files.callback(os.close, descriptor)
        # Other systems have no name for an open folder's content, so its path is used.
        spill_name = name_of(descriptor) if DESCRIPTORS.startswith("/proc") else str(spill)
        opened = files.enter_context(ExitStack())
        try:
            connection = duckdb.connect(
                ":memory:",
                config={
                    "memory_limit": f"{settings.memory_megabytes}MB",
                    "threads": settings.threads or os.cpu_count() or 1,
                    "temp_directory": spill_name,
                    "preserve_insertion_order": "false",
                    "autoinstall_known_extensions": "false",
                    "autoload_known_extensions": "false",
                },
            )
        except duckdb.OutOfMemoryException as error:
            raise IncompleteError(
                "there is not enough memory to compare with",
                hint="raise the limit of the process or the container (`ulimit -v`), or lower "
                "`plan.threads`",
            ) from error
        files.callback(connection.close)
        files.enter_context(interruption.watch(connection))
        yield Session(connection, interruption, opened, spill_name, where, settings)
