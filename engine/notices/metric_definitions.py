"""The names, kinds and labels of all metrics. docs/metrics.md lists them; a test compares both."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
_WORKSPACE, _COHORT = ("workspace",), ("workspace", "cohort")
_GUARD = (*_COHORT, "guard")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    """With its unit, and `_total` if it is a counter."""
    kind: Kind
    labels: tuple[str, ...]
    help: str


REQUESTS = Metric(
    "cohortsync_requests_total",
    "counter",
    ("workspace", "outcome"),
    "Requests that ended, by their outcome.",
)
SENT_BYTES = Metric(
    "cohortsync_sent_bytes_total", "counter", _WORKSPACE, "Bytes of the payloads of all requests."
)
REQUEST_DURATION = Metric(
    "cohortsync_request_duration_seconds",
    "histogram",
    _WORKSPACE,
    "Seconds from the head of a request to its outcome.",
)
UIDS = Metric(
    "cohortsync_uids_total",
    "counter",
    ("workspace", "cohort", "state"),
    "Uids whose batch was settled, by its state; one that is sent again is counted again.",
)
SYNCS = Metric(
    "cohortsync_syncs_total", "counter", ("exit_status",), "Syncs that ended, by exit status."
)
NOTICE_FAILURES = Metric(
    "cohortsync_notice_failures_total",
    "counter",
    ("kind",),
    "Notifications, pings, pushes of metrics, markers and `after` commands that failed.",
)
SYNC_EXIT_STATUS = Metric(
    "cohortsync_sync_exit_status", "gauge", (), "The exit status of the last sync."
)
SYNC_STARTED = Metric(
    "cohortsync_sync_start_timestamp_seconds", "gauge", (), "When the last sync began."
)
SYNC_FINISHED = Metric(
    "cohortsync_sync_end_timestamp_seconds", "gauge", (), "When the last sync ended."
)
SYNC_RUNNING = Metric("cohortsync_sync_running", "gauge", (), "1 while a sync runs, else 0.")
COHORT_EXIT_STATUS = Metric(
    "cohortsync_cohort_exit_status",
    "gauge",
    _COHORT,
    "The exit status of the cohort in its last sync.",
)
COHORT_GUARDED = Metric(
    "cohortsync_cohort_guarded",
    "gauge",
    _COHORT,
    "1 if a guard stopped the cohort in its last sync, else 0.",
)
COHORT_SYNCED = Metric(
    "cohortsync_cohort_last_sync_timestamp_seconds",
    "gauge",
    _COHORT,
    "When the last sync of the cohort ended.",
)
COHORT_SUCCEEDED = Metric(
    "cohortsync_cohort_last_success_timestamp_seconds",
    "gauge",
    _COHORT,
    "When the cohort last ended with exit status 0.",
)
COHORT_EXPECTED = Metric(
    "cohortsync_cohort_expected_interval_seconds",
    "gauge",
    _COHORT,
    "How long after its last success the cohort is overdue, where `expect_every` is set.",
)
COHORT_GUARD_BLOCKS = Metric(
    "cohortsync_cohort_guard_blocks",
    "gauge",
    _GUARD,
    "1 if this guard stopped the cohort's last plan, else 0.",
)
COHORT_GUARD_VALUE = Metric(
    "cohortsync_cohort_guard_value",
    "gauge",
    _GUARD,
    "The number that the guard limits in the cohort's last plan, where it has a limit.",
)
COHORT_GUARD_LIMIT = Metric(
    "cohortsync_cohort_guard_limit",
    "gauge",
    _GUARD,
    "The most that the guard lets through, by the configuration.",
)
COHORT_MEMBERS = Metric(
    "cohortsync_cohort_members",
    "gauge",
    _COHORT,
    "Members of a mirrored cohort, by its last snapshot that a sync recorded.",
)
COHORT_CEILING_USE = Metric(
    "cohortsync_cohort_ceiling_use_ratio",
    "gauge",
    _COHORT,
    "Requests of the cohort's run, as a share of those that the ceiling left for it.",
)
COHORT_OTHER_PROCESSES = Metric(
    "cohortsync_cohort_ceiling_other_processes_ratio",
    "gauge",
    _COHORT,
    "Requests of other hosts during the cohort's run, as a share of what the ceiling allowed.",
)

METRICS: tuple[Metric, ...] = (
    REQUESTS,
    SENT_BYTES,
    REQUEST_DURATION,
    UIDS,
    SYNCS,
    NOTICE_FAILURES,
    SYNC_EXIT_STATUS,
    SYNC_STARTED,
    SYNC_FINISHED,
    SYNC_RUNNING,
    COHORT_EXIT_STATUS,
    COHORT_GUARDED,
    COHORT_GUARD_BLOCKS,
    COHORT_GUARD_VALUE,
    COHORT_GUARD_LIMIT,
    COHORT_SYNCED,
    COHORT_SUCCEEDED,
    COHORT_EXPECTED,
    COHORT_MEMBERS,
    COHORT_CEILING_USE,
    COHORT_OTHER_PROCESSES,
)

DURATION_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of `REQUEST_DURATION`, in seconds; one more has no bound."""
