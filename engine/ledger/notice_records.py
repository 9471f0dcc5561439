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
class GuardState:
    """How a guard judged a cohort last."""

    guard: str
    blocks: bool
    value: int | None = None
    """The number that it limits; None if it limits none."""
    limit: int | None = None
    """The most, by the configuration, that it lets through; None as above."""


@dataclass(frozen=True, slots=True)
class MetricCount:
    """A sum of a metric over all syncs."""

    name: str
    labels: str
    """The values of its labels, as a JSON list."""
    value: float
