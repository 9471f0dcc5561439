"""What the ledgers record of the last sync of each cohort."""

from engine.config.loading import Config, Project
from engine.errors import CohortSyncError
from engine.ledger.sqlite.access import ledger_in
from engine.ledger.sqlite.reader import LedgerReader
from engine.ledger.sync_records import SyncRecord


def last_records(project: Project) -> tuple[dict[str, SyncRecord], list[CohortSyncError]]:
    """Return the record of each configured cohort in the sync that ended last, by its key.

    A workspace whose ledger cannot be read has no record: its error is in the second list.
    """
    found: dict[str, SyncRecord] = {}
    unreadable: list[CohortSyncError] = []
    for config in project.workspaces.values():
        try:
            records = _records_in(config)
        except CohortSyncError as error:
            unreadable.append(error)
            continue
        for record in records:
            cohort = project.cohorts.get(record.cohort)
            is_its_own = record.partner == config.workspace.partner
            if cohort is not None and cohort.workspace == config.name and is_its_own:
                found[record.cohort] = record
    return found, unreadable


def _records_in(config: Config) -> list[SyncRecord]:
    path = ledger_in(config.place.folder)
    if path is None:
        return []
    with LedgerReader.open(path) as ledger:
        return ledger.history.synced_last()
