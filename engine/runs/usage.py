"""The size of the state folder; its imports are few, as `cohortsync status` is quick."""

from collections.abc import Sequence
from pathlib import Path

from engine.config.loading import Config
from engine.ledger.sqlite.access import readable_files
from engine.report.state import StateUsage
from engine.storage.usage import state_usage


def usage_of(config: Config) -> StateUsage:
    """Return the bytes of the state folder's files by kind; see `state_usage`.

    Raises `LedgerError` for a folder that cannot be read.
    """
    with readable_files(config.state_dir):
        return StateUsage(state_usage(config.state_dir, spill_folders(config)))


def spill_folders(config: Config) -> Sequence[Path]:
    """Return the parents of temporary folders that are not beside the ledger."""
    spill_dir = config.planning.spill_dir
    return [Path(spill_dir)] if spill_dir else []
