"""A mirror's plan, as people and programs read it."""

from typing import Any

from engine.ledger.plan_records import PlanRecord


def plan_document(record: PlanRecord) -> dict[str, Any]:
    """Return a plan as plain values, with a sample of its uids."""
    return {
        "generation": record.generation,
        "first_action": record.first_action.value,
        **record.forecast,
        "guards": list(record.verdicts),
        "allowed": list(record.allowances),
    }
