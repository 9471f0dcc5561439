"""The file that stands for a generation whose rows are in a database."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from engine.errors import LedgerError
from engine.storage.files import new_file
from engine.storage.uid_parquet import LOST

_FORMAT = "cohortsync.generation"


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """Which generation of which tables it is."""

    connection: str
    """The name of the connection."""
    tables: str
    """What the names of the cohort's tables end with."""
    number: int
    token: str
    """Distinguishes it from a generation that another machine makes with the same number."""

    def write(self, path: Path) -> None:
        """Write the record, in place of any other; raises as `new_file`."""
        with new_file(path) as file:
            file.write(json.dumps({"format": _FORMAT} | asdict(self)).encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record; raises `LedgerError` if it is damaged or lost."""
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
            if content.pop("format") == _FORMAT:
                return cls(**content)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            pass
        raise LedgerError(f"the snapshot {path} cannot be read: it is lost or damaged", hint=LOST)

    @classmethod
    def read_if_any(cls, path: Path) -> Self | None:
        """Read a record; None if there is none. Raises `LedgerError` if it is damaged."""
        return cls.read(path) if path.exists() else None
