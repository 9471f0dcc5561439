"""The cohorts of the emulator: who is in, by what was applied.

Applying is put off until someone asks, since a set of millions takes more time than everything
else in a request. The API promises no more ("will be processed soon"). The order is kept.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.emulator.payload import Action, Payload

_MOST_PENDING_UIDS = 20_000_000
"""Beyond it each request also applies what is oldest, lest retries pile up without end."""


class CohortKey(NamedTuple):
    """What makes a cohort that cohort: an id means something for its partner only."""

    workspace: str
    partner: str
    cohort_id: str


@dataclass(slots=True)
class Cohort:
    """A segment, made by the first request that names it."""

    name: str
    description: str | None
    requests: int = 0
    """Requests applied to it."""
    added: int = 0
    """Uids in applied requests to add, known or not, duplicates included."""
    removed: int = 0
    """The same for requests to remove."""
    members: set[str] = field(default_factory=set)


class Cohorts:
    """All cohorts, with add and remove as set operations on the users that exist."""

    def __init__(self, *, known_users: frozenset[str] | None, count_only: bool) -> None:
        self._known_users = known_users
        self._count_only = count_only
        self._cohorts: dict[CohortKey, Cohort] = {}
        self._pending: deque[tuple[Cohort, Payload]] = deque()
        self._pending_uids = 0

    def apply(self, workspace: str, payload: Payload) -> None:
        """Apply a payload now, as far as anyone who asks can see."""
        key = CohortKey(workspace, payload.partner, payload.cohort_id)
        cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = Cohort(payload.cohort_name, payload.description)
        cohort.name = payload.cohort_name
        cohort.description = payload.description
        cohort.requests += 1
        if payload.action is Action.ADD:
            cohort.added += payload.count
        else:
            cohort.removed += payload.count
        if self._count_only:
            return
        self._pending.append((cohort, payload))
        self._pending_uids += payload.count
        while self._pending_uids > _MOST_PENDING_UIDS:
            self._settle_oldest()

    def all(self) -> list[tuple[CohortKey, Cohort]]:
        """Give all cohorts in the order of their making, with all that was applied."""
        while self._pending:
            self._settle_oldest()
        return list(self._cohorts.items())

    def find(
        self, cohort_id: str, *, workspace: str | None = None, partner: str | None = None
    ) -> list[tuple[CohortKey, Cohort]]:
        """Find the cohorts of that id, of one workspace or partner where these are given."""
        return [
            (key, cohort)
            for key, cohort in self.all()
            if key.cohort_id == cohort_id
            and workspace in {None, key.workspace}
            and partner in {None, key.partner}
        ]

    def _settle_oldest(self) -> None:
        cohort, payload = self._pending.popleft()
        self._pending_uids -= payload.count
        if payload.action is Action.REMOVE:
            cohort.members.difference_update(payload.uids())
        elif self._known_users is None:
            cohort.members.update(payload.uids())
        else:
            cohort.members.update(self._known_users.intersection(payload.uids()))
