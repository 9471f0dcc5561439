"""The finding of a guard about a plan, before allowances are applied."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GuardFinding:
    """Whether a guard would block, and why."""

    is_bad: bool
    """Whether it blocks unless it is lifted."""
    sentence: str
    count: int = 0
    """The number that an allowance limits."""
    limit: int | None = None
    """The limit by the configuration; None if there is none, or if the sentence includes it."""
    is_too_few: bool = False
    """Whether an allowance is a minimum, and not a maximum."""
    is_unknown: bool = False
    """Whether a fact is missing, so that the guard cannot be evaluated."""
    hint: str | None = None
    """What to do, other than to lift the guard."""

    def is_within(self, bound: int | None) -> bool:
        """Return whether an allowance covers the count; None covers any."""
        if bound is None:
            return True
        return self.count >= bound if self.is_too_few else self.count <= bound


def passes(sentence: str, count: int = 0, limit: int | None = None) -> GuardFinding:
    """Return the finding of a guard that does not block."""
    return GuardFinding(is_bad=False, sentence=sentence, count=count, limit=limit)
