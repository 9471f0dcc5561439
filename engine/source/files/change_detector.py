"""Whether the files of an export are still what they were when they were found."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.clock import Clock, SystemClock
from engine.errors import ChangedWhileReadError, SourceError
from engine.source.files.file_state import FileState

if TYPE_CHECKING:
    from engine.source.files.locations import Location

YOUNG_SECONDS = 60.0
"""A file written so recently, whose last line has no end, may be still being written."""
LOOK_AGAIN_SECONDS = 3.0
"""For how long such a file is seen unchanged before its last line counts."""

WRITTEN_HINT = "run the same command again once it is written completely"


class ChangeWatch:
    """Compares places with what they were; `ChangedWhileReadError` tells of what differs."""

    def __init__(
        self,
        places: Sequence["Location"],
        find: Callable[[], Sequence["Location"]],
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`places` are what was found; `find` expands what the command line names once more."""
        self._places = places
        self._find = find
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._began = self._clock.now()

    def check(self, place: "Location") -> None:
        """Raise `ChangedWhileReadError` if a file is no longer what it was found as."""
        if place.state is None:
            return
        change: str | None = "it is no longer there"
        with suppress(FileNotFoundError):
            change = _change(place.state, place.look())
        if change:
            raise ChangedWhileReadError(
                f"{place.name}: changed while it was read ({change})", hint=WRITTEN_HINT
            )

    def check_end(self, place: "Location", *, is_ended: bool) -> None:
        """Check a file that was read to its end; `is_ended` says whether its last line has one.

        If it has none, and the file is young, the file is given time to grow first.
        """
        if not is_ended and self._is_young(place):
            remaining = self._began + LOOK_AGAIN_SECONDS - self._clock.now()
            if remaining > 0:
                self._sleep(remaining)
        self.check(place)

    def check_all(self) -> None:
        """Check all files, and that the export still stands for these and no others.

        Pipes are left out: what has passed does not change.
        """
        try:
            found = {place.address: place for place in self._find() if place.state}
        except SourceError as error:
            if error.exit_status is not SourceError.exit_status:
                raise
            raise ChangedWhileReadError(
                f"the export changed while it was read: {error.message}", hint=WRITTEN_HINT
            ) from error
        known = {place.address: place for place in self._places if place.state}
        for address, place in known.items():
            now = found.get(address)
            change: str | None = "it is no longer there"
            if now is not None:
                change = _change(place.state, now.state)
            if change:
                raise ChangedWhileReadError(
                    f"{place.name}: changed while the export was read ({change})", hint=WRITTEN_HINT
                )
        added = [place.name for address, place in found.items() if address not in known]
        if added:
            others = f" and {len(added) - 1} more" if len(added) > 1 else ""
            raise ChangedWhileReadError(
                f"{added[0]}{others}: came to the export while it was read", hint=WRITTEN_HINT
            )

    def _is_young(self, place: "Location") -> bool:
        if place.written_utc_ns is None:
            return False
        return (self._clock.stamp().utc_ns - place.written_utc_ns) / 1e9 < YOUNG_SECONDS


def _change(first: FileState | None, later: FileState | None) -> str | None:
    return None if first is None or later is None else first.change(later)
