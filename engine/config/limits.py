"""Reads the tables `limits`, whose ceiling may vary by the hour."""

from dataclasses import dataclass, field, replace
from datetime import UTC, time
from typing import Annotated

from annotated_types import Ge, Le

from engine.config.toml_settings import Tables, key_fields
from engine.config.variables import Keys
from engine.model.setting_values import SHOULD_BE_TIME, TimeOfDay
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.settings import Hours, PacingSettings


@dataclass(frozen=True, slots=True)
class HoursTable:
    """Hours of each day with a ceiling of their own, in the zone of `sync.time_zone`."""

    from_: TimeOfDay = field(default=time(), metadata=SHOULD_BE_TIME)
    """When they begin."""
    until: TimeOfDay = field(default=time(), metadata=SHOULD_BE_TIME)
    """When they end; before `from`, it is of the next day."""
    requests: Annotated[int, Ge(0), Le(10_000_000)] | None = None
    """The most requests in any window; 0 sends nothing."""


def with_hours(tables: Tables, at: Keys, settings: PacingSettings) -> PacingSettings:
    """Return the settings with the hours in the table `at`; with their own hours if it has none."""
    place = (*at, "hours")
    hours: list[tuple[Keys, Hours]] = []
    for each in tables.tables_in(place):
        found = _read_hours(tables, each)
        if found is not None:
            hours.append((each, found))
    _refuse_overlaps(tables, hours)
    if not tables.holds(place):
        return settings
    settings = replace(settings, hours=tuple(each for _, each in hours))
    if not HourlyCeiling(replace(settings, zone=UTC)).is_ever_open:
        tables.refuse(
            place,
            "leave no time to send at: a pause begins a window early and ends a window late",
        )
    return settings


def _read_hours(tables: Tables, at: Keys) -> Hours | None:
    """Return one entry; None after a problem."""
    table = tables.read(at, HoursTable)
    missing = [key for key in key_fields(HoursTable) if not tables.holds((*at, key))]
    for key in missing:
        tables.refuse((*at, key), "is needed: hours have `from`, `until` and `requests`")
    if missing:
        return None
    if table.from_ == table.until:
        tables.refuse((*at, "until"), "should differ from `from`")
        return None
    return Hours(table.from_, table.until, table.requests or 0)


def _refuse_overlaps(tables: Tables, hours: list[tuple[Keys, Hours]]) -> None:
    for number, (place, each) in enumerate(hours):
        for _, other in hours[:number]:
            if each.include(other.start) or other.include(each.start):
                tables.refuse(place, f"overlaps the hours from {other.start:%H:%M}")
                break
