"""Snapshots that the ledger does not know: it was lost, or is an old copy."""

from collections.abc import Iterable
from pathlib import Path

from engine.errors import LedgerError
from engine.model.cohort import CohortKey
from engine.storage.files import names_in
from engine.storage.paths import generation_number


def generations_in(folder: Path) -> list[int]:
    """Return the numbers of the snapshots that have a file in a folder."""
    return [each for each in map(generation_number, names_in(folder)) if each]


def unknown(numbers: Iterable[int], known: int, making: int | None) -> list[int]:
    """Return those of some snapshots that no process of a cohort's ledger can have made.

    `known` is the number of the current snapshot. A process that died may have left the file of
    snapshot `making`, which the ledger does not name.
    """
    return [each for each in numbers if each > known and each != making]


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
