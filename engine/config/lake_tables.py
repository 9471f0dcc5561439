"""Reads tables of a lake that are the `source` of a cohort."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from annotated_types import Ge

from engine.config.config_file import ConfigFile
from engine.config.variables import Keys
from engine.model.setting_values import SHOULD_BE_TEXT, Text
from engine.source.dates import date_problem, expand_dates
from engine.source.lake.naming import read_time


@dataclass(frozen=True, slots=True)
class DeltaSource:
    """A Delta table, read at one version; by default the latest."""

    delta: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """Its folder or URL, which may have dates. A path is relative to this file's folder."""
    version: Annotated[int, Ge(0)] | None = None
    """The number of the version."""
    at: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """A time with its zone, as "{date}T03:00+01:00": the version that was current then."""


@dataclass(frozen=True, slots=True)
class IcebergSource:
    """An Iceberg table, read at one snapshot; by default the current one."""

    iceberg: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """CATALOG.NAMESPACE.TABLE, or the path of a metadata file."""
    snapshot: Annotated[int, Ge(0)] | None = None
    """The id of the snapshot."""
    at: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """A time with its zone, as "{date}T03:00+01:00": the snapshot that was current then."""


LAKE_KEYS = ("delta", "iceberg")
"""The keys of which a table of a lake has one."""


def read_lake_table(file: ConfigFile, at: Keys) -> str | None:
    """Return the name of the table in a table `source`, as a command has it; None without one.

    An invalid key is a problem.
    """
    tables = file.tables
    if not tables.is_table(at):
        return None
    if tables.holds((*at, "delta")):
        delta = tables.read(at, DeltaSource)
        table, number, time = delta.delta, delta.version, delta.at
        kind, key = "delta", "version"
    elif tables.holds((*at, "iceberg")):
        iceberg = tables.read(at, IcebergSource)
        table, number, time = iceberg.iceberg, iceberg.snapshot, iceberg.at
        kind, key = "iceberg", "snapshot"
    else:
        return None
    if number is not None and time is not None:
        tables.refuse((*at, "at"), f"and `{key}` exclude each other")
    if time is not None and (problem := _time_problem(time)):
        tables.refuse((*at, "at"), problem)
        time = None
    if table is None:
        return None
    chosen = number if time is None else time
    return f"{kind}:{table}" + ("" if chosen is None else f"@{chosen}")


def _time_problem(text: str) -> str | None:
    """Return why a text, which may have dates, is no time with its zone; None if it is one."""
    if date_problem(text) is None:
        try:
            read_time(expand_dates(text, datetime.now(UTC).date()))
        except ValueError:
            pass
        else:
            return None
    return 'should be a time with its zone, as "{date}T03:00+01:00"'
