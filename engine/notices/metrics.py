"""The metrics of syncs: counts of events, and the state of each configured cohort."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from engine.delivery.events import Answered, Event, Sent, Settled
from engine.delivery.outcome import kind_of
from engine.errors import ExitStatus
from engine.ledger.notice_records import GuardState, MetricCount
from engine.notices import metric_definitions as defined
from engine.notices.metric_definitions import DURATION_BUCKETS, METRICS, Metric
from engine.notices.problems import CohortPast, NoticedCohort
from engine.report.sync_result import CohortResult, SyncResult

Labels = tuple[str, ...]
_BOUNDS = (*map(str, DURATION_BUCKETS), "+Inf")
_SUM = "sum"
"""The last label of the sum of a histogram, in place of a bucket's bound."""


class SyncMetrics:
    """Collects the metrics of one process; counts of earlier ones are added to its own.

    No label has a value that a user or the API makes up, except names of the configuration: the
    number of time series is bounded.
    """

    def __init__(self, cohorts: Iterable[NoticedCohort]) -> None:
        """`cohorts` are all that are configured: no others are shown."""
        self._cohorts = {each.key: each for each in cohorts}
        self._counts: dict[tuple[str, Labels], float] = {}
        """Of this process, by the metric's name and the values of its labels."""
        self._earlier: dict[tuple[str, Labels], float] = {}
        self._pasts: Mapping[str, CohortPast] = {}
        """What the ledgers know of each cohort, by its key."""
        self._ended: dict[str, tuple[CohortResult, int]] = {}
        """How cohorts of this sync ended, and when, in ns since 1970."""
        self._ceiling_use: dict[str, float] = {}
        self._other_processes: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(self))

    def begin(self, started_utc_ns: int) -> None:
        """Show that a sync runs."""
        self._last[defined.SYNC_STARTED.name] = started_utc_ns / 1e9
        self._last[defined.SYNC_RUNNING.name] = 1

    def observe(self, cohort: str, event: Event) -> None:
        """Count an event of a cohort's run."""
        workspace = self._cohorts[cohort].workspace
        match event:
            case Sent():
                self._add(defined.SENT_BYTES, (workspace,), event.payload_bytes)
            case Answered():
                self._add(defined.REQUESTS, (workspace, kind_of(event.outcome)))
                bound = next((each for each in DURATION_BUCKETS if event.seconds <= each), "+Inf")
                self._add(defined.REQUEST_DURATION, (workspace, str(bound)))
                self._add(defined.REQUEST_DURATION, (workspace, _SUM), event.seconds)
            case Settled():
                labels = (workspace, cohort, event.state.value)
                self._add(defined.UIDS, labels, event.uid_count)
            case _:
                pass

    def note_failure(self, kind: str, count: int = 1) -> None:
        """Count notices that failed."""
        self._add(defined.NOTICE_FAILURES, (kind,), count)

    def end(self, result: SyncResult) -> None:
        """Take over how a sync ended."""
        self._add(defined.SYNCS, (str(int(result.exit_status)),))
        self._last |= {
            defined.SYNC_STARTED.name: result.started_utc_ns / 1e9,
            defined.SYNC_FINISHED.name: result.finished_utc_ns / 1e9,
            defined.SYNC_EXIT_STATUS.name: int(result.exit_status),
            defined.SYNC_RUNNING.name: 0,
        }

    def update(self, result: CohortResult, ended_utc_ns: int) -> None:
        """Take over how a cohort ended."""
        self._ended[result.cohort] = (result, ended_utc_ns)
        if result.run is not None and result.run.accounts.requests.sent:
            self._ceiling_use[result.cohort] = result.run.accounts.ceiling_use
            spent = result.run.accounts.ceiling_spending
            if spent.other_processes:
                self._other_processes[result.cohort] = spent.other_processes / spent.allowed

    def show(self, pasts: Mapping[str, CohortPast], earlier: Iterable[MetricCount]) -> None:
        """Take over the ledgers' state of all cohorts, by key, and the counts of other processes.

        Counts whose metric, workspace or cohort is no longer there are left out.
        """
        self._pasts = pasts
        self._earlier = {}
        for each in earlier:
            labels = tuple(json.loads(each.labels))
            if self._is_known(each.name, labels):
                key = (each.name, labels)
                self._earlier[key] = self._earlier.get(key, 0) + each.value

    def _is_known(self, name: str, labels: Labels) -> bool:
        metric = next((each for each in METRICS if each.name == name), None)
        if metric is None or not metric.labels:
            return False
        named = dict(zip(metric.labels, labels, strict=False))
        workspaces = {each.workspace for each in self._cohorts.values()}
        return named.get("workspace", "") in {"", *workspaces} and named.get("cohort", "") in {
            "",
            *self._cohorts,
        }

    def counts(self, workspace: str, *, is_first: bool) -> list[MetricCount]:
        """Return the counts of this process for the ledger of one workspace.

        Those without a workspace are in the ledger of the first one.
        """
        found = []
        for (name, labels), value in self._counts.items():
            metric = next(each for each in METRICS if each.name == name)
            if labels[0] == workspace if "workspace" in metric.labels else is_first:
                found.append(MetricCount(name, json.dumps(labels), value))
        return found

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format, without timestamps of samples."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Family]:
        """Yield the metrics that have a value."""
        sums = dict(self._earlier)
        for key, value in self._counts.items():
            sums[key] = sums.get(key, 0) + value
        for metric in METRICS:
            found = {labels: value for (name, labels), value in sums.items() if name == metric.name}
            match metric.kind:
                case "histogram":
                    yield _histogram(metric, found)
                case "counter":
                    yield _family(CounterMetricFamily, metric, found.items())
                case "gauge":
                    yield _family(GaugeMetricFamily, metric, self._gauge(metric))

    def _gauge(self, metric: Metric) -> Iterator[tuple[Labels, float]]:
        if metric.name in self._last:
            yield (), self._last[metric.name]
        for key, cohort in self._cohorts.items():
            for state in self._past(key).guards:
                if (found := _guard_value(metric, state)) is not None:
                    yield (cohort.workspace, key, state.guard), found
            value = self._cohort_value(metric, cohort, self._past(key))
            if value is not None:
                yield (cohort.workspace, key), value

    def _past(self, key: str) -> CohortPast:
        """Return what is known of a cohort; this sync may be too young for the ledger."""
        past = self._pasts.get(key, CohortPast())
        if key not in self._ended:
            return past
        result, ended_utc_ns = self._ended[key]
        is_success = result.exit_status is ExitStatus.ACCEPTED
        return replace(
            past,
            exit_status=int(result.exit_status),
            synced_utc_ns=ended_utc_ns,
            last_success_utc_ns=ended_utc_ns if is_success else past.last_success_utc_ns,
            members=past.members if result.members is None else result.members,
        )

    def _cohort_value(
        self, metric: Metric, cohort: NoticedCohort, past: CohortPast
    ) -> float | None:
        match metric:
            case defined.COHORT_EXIT_STATUS:
                return past.exit_status
            case defined.COHORT_GUARDED:
                status = past.exit_status
                return None if status is None else status == ExitStatus.GUARDED
            case defined.COHORT_SYNCED:
                return _seconds(past.synced_utc_ns)
            case defined.COHORT_SUCCEEDED:
                return _seconds(past.last_success_utc_ns)
            case defined.COHORT_EXPECTED:
                expected = cohort.expect_every
                return None if expected is None else expected.total_seconds()
            case defined.COHORT_MEMBERS:
                return past.members
            case defined.COHORT_CEILING_USE:
                return self._ceiling_use.get(cohort.key)
            case defined.COHORT_OTHER_PROCESSES:
                return self._other_processes.get(cohort.key)
            case _:
                return None

    def _add(self, metric: Metric, labels: Labels, count: float = 1) -> None:
        key = (metric.name, labels)
        self._counts[key] = self._counts.get(key, 0) + count


class _Collector:
    """What the registry asks for metrics."""

    def __init__(self, metrics: SyncMetrics) -> None:
        self.collect = metrics.collect


def _family(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    metric: Metric,
    samples: Iterable[tuple[Labels, float]],
) -> Family:
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in sorted(samples):
        family.add_metric(labels, value)
    return family


def _histogram(metric: Metric, found: Mapping[Labels, float]) -> Family:
    """Return the family of counts by bucket, whose last label is the bucket's bound."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for own in sorted({labels[:-1] for labels in found}):
        total = 0.0
        buckets = []
        for bound in _BOUNDS:
            total += found.get((*own, bound), 0)
            buckets.append((bound, total))
        family.add_metric(own, buckets, sum_value=found.get((*own, _SUM), 0))
    return family


def _guard_value(metric: Metric, state: GuardState) -> float | None:
    match metric:
        case defined.COHORT_GUARD_BLOCKS:
            return state.blocks
        case defined.COHORT_GUARD_VALUE:
            return state.value
        case defined.COHORT_GUARD_LIMIT:
            return state.limit
        case _:
            return None


def _seconds(utc_ns: int | None) -> float | None:
    return None if utc_ns is None else utc_ns / 1e9
