"""The values of a plan in the form that the ledger keeps."""

import json
from collections.abc import Sequence
from typing import Any

from engine.ledger.plan_records import OperationCounts
from engine.model.cohort import Operation
from engine.planning.guards import GuardResult
from engine.snapshot.operation_uids import sample
from engine.snapshot.records import Comparison, Member, PlannedOperation

_SAMPLE = 5
"""The number of uids of each operation that are shown."""


def operations_of(found: Comparison) -> dict[Operation, PlannedOperation]:
    """Return the three operations of a comparison by what they do."""
    return {
        Operation.ADD: found.adds,
        Operation.REMOVE: found.removes,
        Operation.RESEND: found.resends,
    }


def counts_of(operation: PlannedOperation) -> OperationCounts:
    """Return the counts of an operation without its file."""
    return OperationCounts(operation.plain, operation.suspect, operation.held, operation.known)


def samples(found: Comparison) -> dict[str, list[str]]:
    """Return the first uids of each operation."""
    return {
        operation.value: sample(each.path, min(_SAMPLE, each.planned))
        for operation, each in operations_of(found).items()
    }


def kept_member(member: Member | None) -> str | None:
    """Return a member in the form that the ledger keeps."""
    return None if member is None else json.dumps({"run": member.run, "uid": member.uid.hex()})


def member(kept: str | None) -> Member | None:
    """Return the member that `kept_member` has written."""
    if kept is None:
        return None
    fields = json.loads(kept)
    return Member(fields["run"], bytes.fromhex(fields["uid"]))


def verdict_document(verdict: GuardResult) -> dict[str, Any]:
    """Return the result of a guard as the ledger keeps it and `--json` shows it."""
    found = "blocks" if verdict.blocks else "lifted" if verdict.is_lifted else "passes"
    return {
        "guard": verdict.guard.value,
        "verdict": "unknown" if verdict.is_unknown else found,
        "sentence": verdict.sentence,
        "count": verdict.count,
        "limit": verdict.limit,
        "override": verdict.override,
        "hint": verdict.hint,
    }


def unchecked(verdicts: Sequence[GuardResult]) -> list[str]:
    """Return a sentence for each guard that was not checked, with the reason."""
    return [
        f"the guard `{each.guard}` was not checked: {each.sentence}"
        for each in verdicts
        if each.is_unknown
    ]
