"""Names the errors of a database's driver: those of the snapshots' tables, not of an export."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.errors import IncompleteError, LedgerError, SourceUnavailableError
from engine.source.sql.driver_errors import Said, error_of
from engine.source.sql.query import Query
from engine.storage.computation import Interruption

_NO_MEMORY = re.compile(r"\bout of memory\b", re.IGNORECASE)
_NO_DISK = re.compile(r"max_temp_directory_size|IO Error: .*no space left", re.IGNORECASE)
"""What DuckDB says; the first is in an error of memory, as what does not fit is on the disk."""
_AGAIN = "run the same command again: the snapshot is as it was"


@dataclass(frozen=True, slots=True)
class Failures:
    """Turns what a driver raises into errors for the user, without passwords and uids."""

    name: str
    """The database, for messages."""
    said: Said
    interruption: Interruption
    """A stop ends statements, whose errors are then the stop's."""

    @contextmanager
    def named(self, kinds: tuple[type[Exception], ...], *, is_open: bool = True) -> Iterator[None]:
        """Raise errors of these kinds as the error of a stop, `IncompleteError` or `LedgerError`.

        `is_open` says whether the database was connected.
        """
        try:
            yield
        except kinds as error:
            self._check(error)
            found = error_of(error, self.said, is_open=is_open)
            if isinstance(found, SourceUnavailableError):
                raise IncompleteError(found.message, hint=_AGAIN) from error
            raise LedgerError(found.message, hint=found.hint) from error

    @contextmanager
    def of_query(self, query: Query, kinds: tuple[type[Exception], ...]) -> Iterator[Said]:
        """Raise errors of these kinds as those of a query: `SourceError`, which names it.

        Raises the error of a stop, and `IncompleteError`, as `named`.
        """
        said = Said(query.name, (query.text, *self.said.shown), self.said.secrets)
        try:
            yield said
        except kinds as error:
            self._check(error)
            raise error_of(error, said, is_open=True) from error

    def _check(self, error: Exception) -> None:
        """Raise the error of a stop, or `IncompleteError` for a lack of memory or disk."""
        self.interruption.check()
        if _NO_DISK.search(str(error)):
            raise IncompleteError(
                f"{self.name} has too little space on the disk for the comparison",
                hint="free some, or set `plan.spill_dir` to a folder on a larger disk",
            ) from error
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            raise IncompleteError(
                f"{self.name} has too little memory for the comparison",
                hint="raise `plan.memory_megabytes`, or lower `plan.threads`",
            ) from error

    @contextmanager
    def ignored(self, kinds: tuple[type[Exception], ...]) -> Iterator[None]:
        """Ignore errors of these kinds: another one is about to be raised."""
        try:
            yield
        except kinds:
            return
