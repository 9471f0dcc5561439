"""What the ledgers know of each cohort, read for all configured cohorts at once."""

from collections.abc import Callable, Sequence

from engine.errors import CohortSyncError
from engine.notices.ports import OpenLedger
from engine.notices.problems import CohortPast, NoticedCohort, past_of

_PAST_NS = 90 * 86_400 * 1_000_000_000
"""How far back the records of earlier syncs are read."""


def workspaces_of(cohorts: Sequence[NoticedCohort]) -> list[str]:
    """Return the names of the workspaces of some cohorts, in their order."""
    return list(dict.fromkeys(each.workspace for each in cohorts))


async def read_pasts(
    cohorts: Sequence[NoticedCohort],
    open_ledger: OpenLedger,
    now_utc_ns: int,
    failed: Callable[[str], None],
    sync: str | None = None,
) -> dict[str, CohortPast]:
    """Return what is known of each cohort, by its key; `sync` is the name of the present sync.

    A ledger that cannot be read is passed to `failed`, as a sentence; its cohorts are left out.
    """
    found: dict[str, CohortPast] = {}
    for name in workspaces_of(cohorts):
        mine = [each for each in cohorts if each.workspace == name]
        partner = mine[0].partner
        try:
            async with open_ledger(name) as ledger:
                records = await ledger.syncs.since(now_utc_ns - _PAST_NS, partner)
                successes = await ledger.notices.last_successes(partner)
                guards = await ledger.notices.last_guards(partner)
        except CohortSyncError as error:
            failed(f"{name}: earlier syncs are not known: {error.message}")
            continue
        found |= {each.key: past_of(each, records, successes, guards, sync) for each in mine}
    return found
