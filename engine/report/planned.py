"""A mirror's plan, as people and programs read it."""

from pathlib import Path
from typing import Any

from engine.ledger.plans import PlanRecord
from engine.plan.compare import leg_path
from engine.plan.leg import sample

_SAMPLE = 5
"""Uids of each leg that are shown."""


def plan_document(record: PlanRecord, folder: Path) -> dict[str, Any]:
    """Return a plan as plain values, with a sample of its uids while `folder` still holds them."""
    samples = {}
    for leg, counts in record.legs.items():
        path = leg_path(folder, leg)
        is_kept = path.exists()
        samples[leg.value] = sample(path, min(_SAMPLE, counts.planned)) if is_kept else None
    return {
        "generation": record.generation,
        "first_action": record.first_action.value,
        **record.forecast,
        "guards": list(record.verdicts),
        "allowed": list(record.allowances),
        "sample": samples,
    }
