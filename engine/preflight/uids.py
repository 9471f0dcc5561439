"""What holds uids: files of a workspace, temporary files, and columns of the ledger."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.config.loading import Config
from engine.errors import LedgerError
from engine.ledger.sqlite.migrations import UID_COLUMNS
from engine.model.quantity import counted
from engine.storage.paths import (
    UidLocation,
    copies_folder,
    fallback_folder,
    uid_locations,
)


def describe_uid_locations(config: Config) -> str:
    """Return a line for each kind of file in each folder, one for columns, one for copies.

    Raises `LedgerError` where a folder cannot be read.
    """
    workspace_folder = config.place.folder
    temporary = fallback_folder(config.planning.spill_dir)
    try:
        found = uid_locations(workspace_folder, [temporary])
        copies = copies_folder()
    except OSError as error:
        raise LedgerError(
            f"{error.filename} cannot be read: {error.strerror}",
            hint="run it as the user who owns the state folder, or pass --state to use another",
        ) from error
    return "\n".join(
        [
            *_lines(found, workspace_folder),
            *_lines(found, temporary),
            f"the ledger's columns {', '.join(map('.'.join, sorted(UID_COLUMNS)))}",
            f"unnamed copies in {copies} while an export that passes only once is read",
        ]
    )


def _lines(found: Sequence[UidLocation], folder: Path) -> Iterator[str]:
    """Yield a line for the files below a folder, by what they hold; none if there are none."""
    inside = [location for location in found if location.path.is_relative_to(folder)]
    if not inside:
        return
    yield f"{folder}:"
    for content in dict.fromkeys(location.content for location in inside):
        sizes = [location.bytes for location in inside if location.content is content]
        yield f"  {content}: {counted(len(sizes), 'file')}, {counted(sum(sizes), 'byte')}"
