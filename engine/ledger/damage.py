"""The error for a ledger whose content no process of this program has written."""

from pathlib import Path

from engine.errors import LedgerError

MOVE_AWAY = (
    "move it away to start afresh; what it knew of unfinished runs is lost, so push those exports "
    "again in full"
)


def corrupt(finding: str, path: Path | None = None) -> LedgerError:
    """Return the error for a ledger with invalid content, at `path` if that is known."""
    ledger = f"the ledger {path}" if path else "the ledger"
    return LedgerError(f"{ledger} is corrupt: {finding}", hint=MOVE_AWAY)
