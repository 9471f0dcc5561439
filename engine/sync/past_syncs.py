"""What the ledgers record of the last sync of each cohort."""

from engine.config.loading import Project
from engine.ledger.sqlite.access import ledger_in
from engine.ledger.sqlite.reader import LedgerReader
from engine.ledger.sync_records import SyncRecord


def last_records(project: Project) -> dict[str, SyncRecord]:
    """Return the record of each configured cohort in the last sync that had it, by its key.

    Raises `LedgerError` for a ledger that cannot be read.
    """
    found: dict[str, SyncRecord] = {}
    for config in project.workspaces.values():
        if (path := ledger_in(config.place.folder)) is None:
            continue
        with LedgerReader.open(path) as ledger:
            records = ledger.history.synced_last()
        for record in records:
            cohort = project.cohorts.get(record.cohort)
            if cohort is not None and cohort.workspace == config.name:
                found[record.cohort] = record
    return found
