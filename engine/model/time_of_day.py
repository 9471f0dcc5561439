"""Times of a day, and the moments that they mean in a time zone."""

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

_HOURS_AND_MINUTES = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAY = timedelta(days=1)


def parse_time_of_day(text: str) -> time:
    """Return the time from `HH:MM`; raises `ValueError` with a clause about the text."""
    found = _HOURS_AND_MINUTES.fullmatch(text)
    if found is None:
        raise ValueError("should be a time from 00:00 to 23:59")
    return time(int(found[1]), int(found[2]))


def next_moment(at: time, utc_ns: int, zone: tzinfo) -> int:
    """Return the first moment after `utc_ns` with time of day `at` in `zone`, in ns since 1970.

    A time that a change of the clocks skips means the same number of minutes after the change. Of a
    time that occurs twice, the first is meant, unless it has passed.
    """
    now = datetime.fromtimestamp(utc_ns / 1e9, UTC)
    today = now.astimezone(zone).date()
    for days in (0, 1, 2):
        local = datetime.combine(today + days * _DAY, at, zone)
        for each in [local, local.replace(fold=1)] if _occurs_twice(local) else [local]:
            moment = each.astimezone(UTC)
            if moment > now:
                return round(moment.timestamp()) * 1_000_000_000
    raise AssertionError("a time of day comes within two days")


def _occurs_twice(local: datetime) -> bool:
    first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    return first < second  # In a gap, the second is earlier.
