"""The plans that are kept for `apply`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.ledger.run_records import KeptPlan
from engine.ledger.sqlite.access import ledgers
from engine.ledger.sqlite.reader import LedgerReader
from engine.report.accounts import SCHEMA_VERSION, timestamp
from engine.storage.paths import operation_path, plan_folder


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """A kept plan."""

    plan: str
    cohort_id: str
    cohort_name: str
    workspace: str
    made_at: str
    """ISO 8601, in UTC."""
    status: str
    """`planned`, or `canary` if its first uids are sent."""
    counts: Mapping[str, int]
    """The planned uids of each operation, sent or not: add, remove, resend."""
    problem: str | None
    """Why it can't be applied; None if it can."""

    @property
    def can_be_applied(self) -> bool:
        """Whether `apply` would send it."""
        return self.problem is None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of the plan."""
        document: dict[str, Any] = asdict(self)
        document |= document.pop("counts")
        document["can_be_applied"] = self.can_be_applied
        return document | {"schema_version": SCHEMA_VERSION}


def kept_plans(state: Path) -> list[PlanEntry]:
    """Return every kept plan in the state folder, the latest first; raises as `ledgers` does."""
    found: list[PlanEntry] = []
    for path in ledgers(state):
        with LedgerReader.open(path) as ledger:
            found += [_entry(each, path.parent) for each in ledger.history.kept_plans()]
    return sorted(found, key=lambda each: each.made_at, reverse=True)


def _entry(kept: KeptPlan, folder: Path) -> PlanEntry:
    run = kept.run
    return PlanEntry(
        run.name,
        run.cohort_id,
        run.cohort_name,
        run.workspace,
        timestamp(run.started_utc_ns),
        run.status,
        {operation.value: counts.planned for operation, counts in kept.plan.operations.items()},
        _problem(kept, folder),
    )


def _problem(kept: KeptPlan, folder: Path) -> str | None:
    if kept.is_closed:
        return "it is closed"
    if kept.later_run is not None:
        return f"run {kept.later_run} has mirrored or pushed since"
    if kept.plan.generation != kept.current_generation:
        return "the snapshot has changed since"
    uids = plan_folder(folder, kept.run.name)
    planned = [each for each, counts in kept.plan.operations.items() if counts.planned]
    if not all(operation_path(uids, operation).exists() for operation in planned):
        return "its uids are no longer kept"
    return None
