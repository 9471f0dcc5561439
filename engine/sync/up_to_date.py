"""Whether a cohort's export has been completed by an earlier run already."""

from collections.abc import Sequence

from engine.config.cohort_settings import CohortSettings
from engine.ledger.records import action_name
from engine.ledger.run_records import LastRun
from engine.model.status import RunStatus
from engine.source.source_file import SourceFile
from engine.source.spec import SourceSpec


def has_completed(
    last: LastRun, cohort: CohortSettings, present: Sequence[SourceFile], spec: SourceSpec
) -> bool:
    """Return whether a cohort's last run has completed the export that is `present` now.

    The export is the same if its files have the same names, sizes and times of writing, an unknown
    time being a new one, and are read in the same way; or if the same query has the same result,
    which is unknown of a query that the database evaluates: its plan finds what has changed.
    The exclusion list of a mirror may have changed: its content is not kept.
    """
    entry = last.record.entry
    action = action_name(cohort.push_action)
    is_same_request = (entry.action, entry.cohort_name) == (action, cohort.name)
    return (
        entry.status == RunStatus.FINISHED
        and is_same_request
        and last.spec.options == spec.options
        and last.spec.exclude == spec.exclude
        and (spec.exclude is None or spec.exclude.digest is not None)
        and last.spec.query == spec.query
        and (spec.query.digest is not None if spec.query else _are_same(last.files, present))
    )


def _are_same(earlier: Sequence[SourceFile], present: Sequence[SourceFile]) -> bool:
    return 0 < len(present) == len(earlier) and all(map(_is_same, earlier, present))


def _is_same(earlier: SourceFile, present: SourceFile) -> bool:
    return (
        present.written_utc_ns is not None
        and earlier.written_utc_ns == present.written_utc_ns
        and (earlier.name, earlier.bytes) == (present.name, present.bytes)
    )
