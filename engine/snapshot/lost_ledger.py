"""Snapshots that the ledger does not know: it was lost, or is an old copy."""

from pathlib import Path

from engine.errors import LedgerError
from engine.model.cohort import CohortKey
from engine.storage.files import names_in
from engine.storage.paths import generation_number


def unknown_files(folder: Path, known: int, making: int | None) -> list[int]:
    """Return the numbers of snapshots that no process of a cohort's ledger can have made.

    `known` is the number of the current snapshot. A process that died may have left the file of
    snapshot `making`, which the ledger does not name.
    """
    numbers = map(generation_number, names_in(folder))
    return [each for each in numbers if each and each > known and each != making]


def lost_ledger(path: Path) -> LedgerError:
    """Return the error for a snapshot that the ledger should know."""
    return LedgerError(
        f"the ledger does not know of the snapshot {path}: it was lost, or is an old copy",
        hint="put the ledger back; or `cohortsync snapshot import` that file, or mirror "
        "with --assume-empty to add everything again and remove nothing",
    )


def moved_elsewhere(key: CohortKey, number: int) -> LedgerError:
    """Return the error for a generation in a database that the ledger should know."""
    return LedgerError(
        f"the ledger does not know of generation {number} of cohort {key.cohort_id} in the "
        "database: another machine has made it, or the ledger is an old copy",
        hint="mirror the cohort where that generation was made, or put the ledger back; or mirror "
        "with --assume-empty to add everything again and remove nothing",
    )
