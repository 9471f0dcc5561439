"""Times of a day, and the moments that they mean in a time zone."""

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

_HOURS_AND_MINUTES = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAY = timedelta(days=1)
_SECOND_NS = 1_000_000_000


def parse_time_of_day(text: str) -> time:
    """Return the time from `HH:MM`; raises `ValueError` with a clause about the text."""
    found = _HOURS_AND_MINUTES.fullmatch(text)
    if found is None:
        raise ValueError("should be a time from 00:00 to 23:59")
    return time(int(found[1]), int(found[2]))


def next_moment(at: time, utc_ns: int, zone: tzinfo | None) -> int:
    """Return the first moment after `utc_ns` with time of day `at` in `zone`, in ns since 1970.

    Without a zone, that of the system. A time that a change of the clocks skips means the same
    number of minutes after the change. Of a time that occurs twice, the first is meant, unless it
    has passed.
    """
    today = local_time(utc_ns, zone).date()
    for days in (0, 1, 2):
        local = datetime.combine(today + days * _DAY, at, zone)
        # If the clocks skip it, the second is earlier than the first.
        first, second = (round(local.replace(fold=fold).timestamp()) for fold in (0, 1))
        for seconds in (first, max(first, second)):
            if seconds * _SECOND_NS > utc_ns:
                return seconds * _SECOND_NS
    raise AssertionError("a time of day comes within two days")


def local_time(utc_ns: int, zone: tzinfo | None = None) -> datetime:
    """Return a moment as a time in `zone`, or in that of the system."""
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).astimezone(zone)
