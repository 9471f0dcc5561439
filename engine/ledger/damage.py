"""The error for a ledger that holds what no process of this program has written."""

from engine.errors import LedgerError

MOVE_AWAY = (
    "move it away to start afresh; what it knew of unfinished runs is lost, so push those exports "
    "again in full"
)


def corrupt(finding: str) -> LedgerError:
    """Return the error for a ledger whose content makes no sense."""
    return LedgerError(f"the ledger is corrupt: {finding}", hint=MOVE_AWAY)
