"""Errors, named by the caller's possible reaction, each with its exit status.

An error has one sentence for the user and, if possible, a hint at a solution. No error contains a
credential or a uid, because errors are logged.
"""

from enum import IntEnum


class ExitStatus(IntEnum):
    """The command's exit status, for a scheduler."""

    ACCEPTED = 0
    """Everything planned was accepted."""
    PARTIAL = 1
    """Finished; some uids were rejected or rows invalid, beyond the tolerance set."""
    USAGE = 2
    """Usage, configuration, the source or an unusable ledger: correct it, then run again."""
    REFUSED = 3
    """The API refused the run: credentials, the account, or the request itself."""
    GUARDED = 4
    """A guard stopped the run before anything was sent."""
    UNBALANCED = 70
    """The accounts do not balance: a bug in this program."""
    INCOMPLETE = 75
    """Stopped early without loss: run the same command again to continue."""


class CohortSyncError(Exception):
    """Base class of the errors that are shown as one line instead of a traceback."""

    exit_status = ExitStatus.USAGE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.run: str | None = None
        """The run that the error ended, if the run is known and its accounts are not."""


class UsageError(CohortSyncError):
    """The command line is invalid."""


class ConfigError(CohortSyncError):
    """The configuration cannot be used; the message lists every problem found."""


class SourceError(CohortSyncError):
    """An export cannot be read or has nothing to send."""


class MissingExportError(SourceError):
    """No file matches the name of an export; it may not be written yet."""


class SourceUnavailableError(SourceError):
    """An export cannot be read now but may be readable later: run the same command again."""

    exit_status = ExitStatus.INCOMPLETE


class ChangedWhileReadError(SourceError):
    """A file of the export was written, replaced, added or removed while it was read."""


class EmptyExportError(SourceError):
    """An export was read to its end, and none of its rows has a uid."""


class ExportChangedError(SourceError):
    """The export no longer holds the uids that the ledger has from an earlier attempt."""


class LedgerError(CohortSyncError):
    """The ledger is unusable: corrupt, newer than this program, or on a network file system."""


class GuardError(CohortSyncError):
    """A guard stops the run before anything is sent."""

    exit_status = ExitStatus.GUARDED


class RefusedError(CohortSyncError):
    """The API refused the run; sending more would be refused too."""

    exit_status = ExitStatus.REFUSED


class IncompleteError(CohortSyncError):
    """The run needs a change outside the program; then the same command continues it."""

    exit_status = ExitStatus.INCOMPLETE


class StateFullError(IncompleteError):
    """The disk under the state folder is full."""


class StateGoneError(IncompleteError):
    """The state folder was removed or replaced while it was in use."""


class LockHeldError(IncompleteError):
    """Another process works on the same workspace and state folder."""
