"""Finds the run that a name means: `latest`, a full name, or the beginning of one name only."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from engine.errors import UsageError
from engine.ledger.run_records import ALL_RUNS, RunEntry, RunFilter

LATEST = "latest"
"""Means the latest run that the command can be given."""
_LISTED = 5

Place = TypeVar("Place")


class RunNames(Protocol):
    """The names of the runs of one ledger."""

    def names(self, wanted: RunFilter = ALL_RUNS) -> Sequence[str]:
        """Return the names of the runs that a filter selects, in the order in which they began."""

    def entry(self, name: str) -> RunEntry | None:
        """Return a run; None if the ledger does not have it."""


def candidates(ledger: RunNames, given: str, wanted: RunFilter) -> Sequence[str]:
    """Return the names of a ledger's runs that `given` may mean.

    `wanted.statuses` restricts only `latest`, so that another run's status can be reported.
    """
    if given == LATEST:
        return ledger.names(wanted)[-1:]
    if ledger.entry(given) is not None:
        return [given]
    return ledger.names(replace(wanted, prefix=given, statuses=None)) if given else []


def the_one(
    given: str, found: Sequence[tuple[Place, str]], none: Callable[[], UsageError], what: str
) -> tuple[Place, str]:
    """Return the run that `given` means, of those found in several places.

    Raises what `none` returns if there is no such run, and `UsageError` if there are several.
    """
    if given == LATEST and found:
        return max(found, key=lambda each: each[1])
    with suppress(ValueError):
        [one] = [each for each in found if each[1] == given] or found
        return one
    if not found:
        raise none()
    names = sorted(name for _, name in found)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    raise UsageError(
        f"{what} {given} is ambiguous: {', '.join(names[:_LISTED])}{more} begin with it",
        hint="give more of its characters",
    )
