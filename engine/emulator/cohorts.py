"""The cohorts of the emulator, and their members after the applied requests.

Requests are applied when members are read, because an update of a set of millions takes longer than
the rest of a request. The API promises no more ("will be processed soon"). The order is kept.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.emulator.payload import Action, Payload

_MOST_PENDING_UIDS = 20_000_000
"""Above it each request also applies the oldest ones, so that retries do not accumulate."""


class CohortKey(NamedTuple):
    """The key of a cohort; an id is valid only within its partner."""

    workspace: str
    partner: str
    cohort_id: str


@dataclass(slots=True)
class Cohort:
    """A segment, created by the first request that names it."""

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
        """Apply a payload; every later read includes it."""
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
        """Return all cohorts in order of creation, with all requests applied."""
        while self._pending:
            self._settle_oldest()
        return list(self._cohorts.items())

    def find(
        self, cohort_id: str, *, workspace: str | None = None, partner: str | None = None
    ) -> list[tuple[CohortKey, Cohort]]:
        """Return the cohorts with an id, filtered by workspace or partner if these are given."""
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
