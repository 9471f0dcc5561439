"""Whether a cohort's export has been completed by an earlier run already."""

from collections.abc import Sequence

from engine.config.cohorts import CohortSettings
from engine.ledger.records import MIRROR
from engine.ledger.run_records import RunEntry
from engine.model.status import RunStatus
from engine.source.source_file import SourceFile


def has_completed(
    last: RunEntry,
    read: Sequence[SourceFile],
    cohort: CohortSettings,
    present: Sequence[SourceFile],
) -> bool:
    """Return whether a cohort's last run has completed the export that is there now.

    The export is the same if the files that were `read` have the names, sizes and times of writing
    of those that are `present`; an unknown time counts as a new one.
    """
    action = MIRROR if cohort.mode == "mirror" else cohort.mode
    return (
        last.status == RunStatus.FINISHED
        and (last.action, last.cohort_name) == (action, cohort.name)
        and 0 < len(present) == len(read)
        and all(map(_is_same, read, present))
    )


def _is_same(earlier: SourceFile, present: SourceFile) -> bool:
    return (
        present.written_utc_ns is not None
        and earlier.written_utc_ns == present.written_utc_ns
        and (earlier.name, earlier.bytes) == (present.name, present.bytes)
    )
