"""The metrics: their text, what they count, and that nothing makes series without bound."""

import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.delivery.events import Answered, Divided, Sent, Settled
from engine.delivery.outcome import Accepted, Rejected, Throttled, Unconfirmed
from engine.errors import ExitStatus
from engine.ledger.notice_records import GuardState, MetricCount
from engine.model.status import BatchState
from engine.notices.metric_definitions import DURATION_BUCKETS, METRICS
from engine.notices.metrics import SyncMetrics
from engine.notices.problems import CohortPast
from synced import COHORT, SECOND, ended, pushed, synced

LAPSED = replace(COHORT, key="lapsed", cohort_id="lapsed-id", workspace="eu")
DAILY = replace(COHORT, expect_every=timedelta(hours=24))


def samples(metrics: SyncMetrics) -> dict[str, float]:
    """Return each sample by its name and labels, as the text has them."""
    text = metrics.text().decode()
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def observed(metrics: SyncMetrics, cohort: str = "vip") -> SyncMetrics:
    for event in (
        Sent(1, 1, 1000),
        Answered(1, 1, Throttled(1.0), 0.3),
        Sent(1, 2, 1000),
        Answered(1, 2, Unconfirmed("uid S3CRET"), 61.5),
        Answered(1, 3, Rejected("uid S3CRET", names_members=True), 0.05),
        Answered(1, 4, Accepted(), 0.051),
        Divided(1, "S3CRET"),
        Settled(1, BatchState.ACCEPTED, 500, None),
        Settled(2, BatchState.REJECTED, 3, "S3CRET"),
    ):
        metrics.observe(cohort, event)
    return metrics


def test_events_are_counted() -> None:
    found = samples(observed(SyncMetrics([COHORT])))
    outcome = 'cohortsync_requests_total{outcome="%s",workspace="default"}'
    assert {
        name: found[outcome % name] for name in ("accepted", "rejected", "throttled", "unconfirmed")
    } == {"accepted": 1, "rejected": 1, "throttled": 1, "unconfirmed": 1}
    assert found['cohortsync_sent_bytes_total{workspace="default"}'] == 2000
    uids = 'cohortsync_uids_total{cohort="vip",state="%s",workspace="default"}'
    assert (found[uids % "accepted"], found[uids % "rejected"]) == (500, 3)
    bucket = 'cohortsync_request_duration_seconds_bucket{le="%s",workspace="default"}'
    assert [found[bucket % each] for each in (*DURATION_BUCKETS, "+Inf")] == [
        *(1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4)
    ]
    assert found['cohortsync_request_duration_seconds_count{workspace="default"}'] == 4
    total = found['cohortsync_request_duration_seconds_sum{workspace="default"}']
    assert total == pytest.approx(0.3 + 61.5 + 0.05 + 0.051)
    assert "S3CRET" not in observed(SyncMetrics([COHORT])).text().decode()


def test_counts_of_earlier_processes_are_added_for_what_still_exists() -> None:
    metrics = observed(SyncMetrics([COHORT]))
    earlier = [
        MetricCount("cohortsync_sent_bytes_total", '["default"]', 40),
        MetricCount("cohortsync_sent_bytes_total", '["renamed"]', 40),
        MetricCount("cohortsync_uids_total", '["default", "gone", "accepted"]', 40),
        MetricCount("cohortsync_of_another_version_total", '["default"]', 40),
    ]
    for _ in range(2):  # Showing twice counts once.
        metrics.show({}, earlier)
        found = samples(metrics)
        assert found['cohortsync_sent_bytes_total{workspace="default"}'] == 2040
        assert not [each for each in found if re.search("renamed|gone|another", each)]


def test_a_process_s_own_counts_add_up_to_what_the_next_one_shows() -> None:
    cohorts = [COHORT, LAPSED]
    metrics = observed(observed(SyncMetrics(cohorts)), "lapsed")
    metrics.end(synced(ended(ExitStatus.ACCEPTED)))
    counts = [
        each
        for number, name in enumerate(("default", "eu"))
        for each in metrics.counts(name, is_first=number == 0)
    ]
    after = SyncMetrics(cohorts)
    after.show({}, counts)
    counters = {k: v for k, v in samples(metrics).items() if "_timestamp_" not in k}
    counters = {k: v for k, v in counters.items() if not k.startswith("cohortsync_sync_")}
    assert samples(after) == counters
    assert all(isinstance(json.loads(each.labels), list) for each in counts)


def test_the_state_of_each_cohort_is_shown_also_of_those_not_in_the_sync() -> None:
    metrics = SyncMetrics([DAILY, LAPSED])
    metrics.begin(5 * SECOND)
    assert samples(metrics)["cohortsync_sync_running"] == 1
    past = CohortPast(last_success_utc_ns=7 * SECOND, exit_status=4, synced_utc_ns=8 * SECOND)
    guards = [
        GuardState("removals", blocks=True, value=9, limit=5),
        GuardState("age", blocks=False),
    ]
    metrics.show({"lapsed": replace(past, members=12, guards=guards)}, [])
    result = pushed(10, status=ExitStatus.PARTIAL)
    metrics.update(result, 10 * SECOND)
    metrics.end(synced(result, at_utc_ns=11 * SECOND))
    vip, lapsed = '{cohort="vip",workspace="default"}', '{cohort="lapsed",workspace="eu"}'
    assert samples(metrics) == {
        'cohortsync_syncs_total{exit_status="1"}': 1,
        "cohortsync_sync_exit_status": 1,
        "cohortsync_sync_start_timestamp_seconds": 10,
        "cohortsync_sync_end_timestamp_seconds": 11,
        "cohortsync_sync_running": 0,
        f"cohortsync_cohort_exit_status{vip}": 1,
        f"cohortsync_cohort_exit_status{lapsed}": 4,
        f"cohortsync_cohort_guarded{vip}": 0,
        f"cohortsync_cohort_guarded{lapsed}": 1,
        'cohortsync_cohort_guard_blocks{cohort="lapsed",guard="removals",workspace="eu"}': 1,
        'cohortsync_cohort_guard_blocks{cohort="lapsed",guard="age",workspace="eu"}': 0,
        'cohortsync_cohort_guard_value{cohort="lapsed",guard="removals",workspace="eu"}': 9,
        'cohortsync_cohort_guard_limit{cohort="lapsed",guard="removals",workspace="eu"}': 5,
        f"cohortsync_cohort_last_sync_timestamp_seconds{vip}": 10,
        f"cohortsync_cohort_last_sync_timestamp_seconds{lapsed}": 8,
        f"cohortsync_cohort_last_success_timestamp_seconds{lapsed}": 7,
        f"cohortsync_cohort_expected_interval_seconds{vip}": 86400,
        f"cohortsync_cohort_members{lapsed}": 12,
        f"cohortsync_cohort_ceiling_use_ratio{vip}": 0.99,
    }


def test_a_success_is_shown_and_what_a_failed_cohort_had_stays() -> None:
    metrics = SyncMetrics([COHORT])
    metrics.update(ended(ExitStatus.USAGE), 20 * SECOND)
    past = CohortPast(last_success_utc_ns=10 * SECOND, members=5, exit_status=0)
    metrics.show({"vip": past}, [])
    found = samples(metrics)
    of_vip = '{cohort="vip",workspace="default"}'
    assert found[f"cohortsync_cohort_last_success_timestamp_seconds{of_vip}"] == 10
    assert found[f"cohortsync_cohort_last_sync_timestamp_seconds{of_vip}"] == 20
    assert found[f"cohortsync_cohort_members{of_vip}"] == 5


def test_the_text_parses_and_has_each_metric_with_its_kind_and_help() -> None:
    metrics = observed(SyncMetrics([COHORT]))
    families = {each.name: each for each in text_string_to_metric_families(metrics.text().decode())}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert all(sample.timestamp is None for sample in family.samples)
    assert len(families) == len(METRICS)
    assert "_created" not in metrics.text().decode()


def test_names_have_their_units_and_labels_have_bounded_values() -> None:
    names = [each.name for each in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"cohortsync(_[a-z]+)+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert set(metric.labels) <= {
            *("workspace", "cohort", "outcome", "state", "exit_status", "kind", "guard")
        }
