"""Detects files that change while they are read."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from engine.clock import Clock, SystemClock
from engine.errors import ChangedWhileReadError, SourceError
from engine.source.files.locations import Location

YOUNG_SECONDS = 60.0
"""A file written less than this many seconds ago may still be growing."""
RECHECK_SECONDS = 3.0
"""Seconds that such a file must stay unchanged before an unterminated last line is read."""

_GONE = "it is no longer there"
_WRITTEN_HINT = "run the same command again once it is written completely"


class ChangeDetector:
    """Compares the current state of files with their state when they were found.

    Each check raises `ChangedWhileReadError` if they differ.
    """

    def __init__(
        self,
        locations: Sequence[Location],
        find: Callable[[], Sequence[Location]],
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`locations` are the files that were found; `find` finds them again."""
        self._locations = locations
        self._find = find
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._began = self._clock.now()

    def check(self, location: Location) -> None:
        """Compare one file with its earlier state."""
        if location.state is None:
            return
        change: str | None = _GONE
        with suppress(FileNotFoundError):
            change = location.state.change(location.current_state())
        if change:
            raise changed(location.name, change)

    def check_end(self, location: Location, *, is_ended: bool) -> None:
        """Check a file that was read to its end; `is_ended`: its last line has a line end.

        If it has none and the file is young, wait first, because the file may grow.
        """
        if not is_ended and self._is_young(location):
            remaining = self._began + RECHECK_SECONDS - self._clock.now()
            if remaining > 0:
                self._sleep(remaining)
        self.check(location)

    def check_all(self) -> None:
        """Compare all files, and check that none has been added or removed.

        Pipes are left out: data already read from a pipe does not change.
        """
        try:
            found = {location.address: location for location in self._find() if location.state}
        except SourceError as error:
            if error.exit_status is not SourceError.exit_status:
                raise
            raise ChangedWhileReadError(
                f"the export changed while it was read: {error.message}", hint=_WRITTEN_HINT
            ) from error
        known = [(location, location.state) for location in self._locations if location.state]
        for location, state in known:
            now = found.get(location.address)
            if change := state.change(now.state) if now else _GONE:
                raise changed(location.name, change, "the export")
        addresses = {location.address for location, _ in known}
        added = [location.name for location in found.values() if location.address not in addresses]
        if added:
            others = f" and {len(added) - 1} more" if len(added) > 1 else ""
            raise ChangedWhileReadError(
                f"{added[0]}{others}: came to the export while it was read", hint=_WRITTEN_HINT
            )

    def _is_young(self, location: Location) -> bool:
        if location.written_utc_ns is None:
            return False
        return (self._clock.stamp().utc_ns - location.written_utc_ns) / 1e9 < YOUNG_SECONDS


def changed(name: str, change: str, what: str = "it") -> ChangedWhileReadError:
    """Return the error for a file that changed while `what` was read."""
    return ChangedWhileReadError(
        f"{name}: changed while {what} was read ({change})", hint=_WRITTEN_HINT
    )
