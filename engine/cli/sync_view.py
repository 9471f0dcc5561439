"""Shows a sync by log lines."""

import gc
from collections.abc import Mapping

import pyarrow as pa

from engine import CohortResult, Opening, Phase, StopSwitch, SyncObservers, SyncOpening
from engine.cli.messages import level_of, log
from engine.report.forecast import CohortForecast


def observers_of(switch: StopSwitch) -> SyncObservers:
    """Return observers that log what a sync does."""
    return SyncObservers(
        begun=_begun,
        phase=_phase,
        opened=_opened,
        forecast=_forecast,
        ended=_ended,
        note=_note,
        switch=switch,
    )


def _begun(opening: SyncOpening) -> None:
    cohorts = " ".join(each.key for each in opening.cohorts)
    log("info", "begun", sync=opening.sync, cohorts=cohorts, dry_run=opening.is_dry)


def _phase(key: str, phase: Phase) -> None:
    log("info", "phase", cohort=key, phase=phase.value)


def _opened(key: str, opening: Opening) -> None:
    # As for a single run; see `running.shown`.
    gc.freeze()
    pa.set_memory_pool(pa.system_memory_pool())
    log("info", "opened", cohort=key, run=opening.run, resumed=opening.is_resumed)


def _forecast(sentence: str, forecasts: Mapping[str, CohortForecast]) -> None:
    del forecasts
    log("info", "forecast", text=sentence)


def _note(text: str, *, label: str | None = None) -> None:
    log("warning" if label == "warning" else "info", "note", text=text)


def _ended(result: CohortResult) -> None:
    log(
        level_of(result.exit_status),
        "ended",
        cohort=result.cohort,
        status=result.status.value,
        exit_status=int(result.exit_status),
        reason=result.reason,
    )
