"""What decides which uids are desired, and which of the differences are sent, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from engine.snapshot.records import NOTHING_HELD, HeldChanges, Member, Staged
from engine.storage.uid_parquet import schema_of

REJECTIONS = schema_of(uid=pa.binary(), wanted=pa.bool_(), run=pa.int32(), is_due=pa.bool_())
"""Uids that the API did not add (`wanted`) or did not remove, the run of the last rejection, and
whether the uid is due to be sent again."""


@dataclass(frozen=True, slots=True)
class Resend:
    """Which of the present members are to be added once more."""

    most: int
    after: Member | None = None
    """The last member resent, after which the round continues; None: a round begins."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What decides which uids are desired, and which of the differences are sent, and when."""

    recent_runs: Sequence[int] = ()
    """Runs whose requests the API may not have applied yet: a change that reverses one of theirs
    is held."""
    waiting: HeldChanges = NOTHING_HELD
    """The other changes that are held."""
    rejections: pa.Table = field(default_factory=REJECTIONS.empty_table)
    """Of the schema `REJECTIONS`."""
    resend: Resend | None = None
    excluded: Staged | None = None
    """Uids that are not desired."""
    removals: Staged | None = None
    """The rows that say remove, if the export is a list of changes: then its own rows say add, and
    uids without a row stay as they are. Both lists share the numbers of their rows; of the rows of
    a uid, the one with the greatest number counts."""


NO_CONDITIONS = Conditions()
