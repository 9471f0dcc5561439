"""What the ledger records of notices: who was told what, and what metrics count over all syncs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToldProblem:
    """A problem of a cohort that a recipient of notifications was told of, and that lasts."""

    cohort: str
    """The cohort's key in the configuration."""
    recipient: str
    """The owner's name; empty for the recipients of all notifications."""
    problem: str


@dataclass(frozen=True, slots=True)
class MetricCount:
    """A sum of a metric over all syncs."""

    name: str
    labels: str
    """The values of its labels, as a JSON list."""
    value: float
