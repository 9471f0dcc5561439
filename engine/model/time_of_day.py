"""Times of a day in a time zone, as configurations and command lines state them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

_HOURS_AND_MINUTES = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class TimeOfDay:
    """A time of the day to the minute, in a zone that is given when it is used."""

    hour: int
    minute: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the time from `HH:MM`; raises `ValueError` with a clause about the text."""
        found = _HOURS_AND_MINUTES.fullmatch(text)
        if found is None:
            raise ValueError("should be a time from 00:00 to 23:59")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"

    def next_after(self, utc_ns: int, zone: tzinfo) -> int:
        """Return the first moment after `utc_ns` with this time of day in `zone`, in ns since 1970.

        A time that a change of the clocks skips is taken as the same number of minutes after the
        change; of a time that occurs twice, the first is meant, unless that has passed.
        """
        now = datetime.fromtimestamp(utc_ns / 1e9, UTC)
        today = now.astimezone(zone).date()
        for days in (0, 1, 2):
            date = today + days * _DAY
            for fold in (0, 1):
                local = datetime(
                    *(date.year, date.month, date.day, self.hour, self.minute),
                    tzinfo=zone,
                    fold=fold,
                )
                moment = local.astimezone(UTC)
                if moment > now and (fold == 0 or self._occurs_twice(local)):
                    return round(moment.timestamp()) * 1_000_000_000
        raise AssertionError("a time of day comes within two days")

    @staticmethod
    def _occurs_twice(local: datetime) -> bool:
        return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset() and (
            local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None)
            == local.replace(tzinfo=None)
        )
