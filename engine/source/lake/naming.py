"""Names of tables: `delta:FOLDER`, `iceberg:CATALOG.NAMESPACE.TABLE`, and which version is meant.

A version follows `@`: its number, which for Iceberg is the id of a snapshot, or a time with its
zone, as in `delta:s3://lake/vip@2026-11-27T03:00Z`. Without one, the latest is meant.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from engine.errors import UsageError
from engine.source.urls import is_url, redacted

Kind = Literal["delta", "iceberg"]

_NAME = re.compile(r"(delta|iceberg):(?!//)(.+)", re.DOTALL)
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")


@dataclass(frozen=True, slots=True)
class TableName:
    """A table, and which version of it is read."""

    kind: Kind
    table: str
    """The folder or URL of a Delta table; of an Iceberg table its name in a catalog, or the path of
    a metadata file."""
    version: int | None = None
    """The number of the version, or the id of the snapshot."""
    at: datetime | None = None
    """The version that was current then."""

    def __str__(self) -> str:
        version = self.version if self.at is None else self.at.isoformat()
        return f"{self.kind}:{self.table}" + ("" if version is None else f"@{version}")


def is_table(name: str) -> bool:
    """Return whether the name of an export is that of a table."""
    return _NAME.fullmatch(name) is not None


def read_table_name(name: str) -> TableName:
    """Return what the name of a table says.

    Raises `UsageError` for a time without a zone, and for a URL with credentials.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(name)
    kind: Kind = "delta" if found[1] == "delta" else "iceberg"
    table, mark, version = found[2].rpartition("@")
    if mark and table and version.isascii() and version.isdigit():
        named = TableName(kind, table, version=int(version))
    elif mark and table and _TIME.fullmatch(version):
        named = TableName(kind, table, at=_time(name, version))
    else:
        named = TableName(kind, found[2])
    if is_url(named.table) and redacted(named.table) != named.table:
        raise UsageError(
            f"{kind}:{redacted(named.table)}: may have no credentials in its URL",
            hint="put them into the environment, as AWS_ACCESS_KEY_ID and others",
        )
    return named


def read_time(text: str) -> datetime:
    """Return a time with its zone; raises `ValueError` for another text."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return time


def _time(name: str, text: str) -> datetime:
    try:
        return read_time(text)
    except ValueError:
        raise UsageError(
            f"{name}: {text!r} is not a time with its zone",
            hint="write it as 2026-11-27T03:00Z or 2026-11-27T03:00+01:00",
        ) from None
