"""The limits at which guards block."""

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from annotated_types import Ge, Le, Len

Count = Annotated[int, Ge(0), Le(1_000_000_000_000)]
Share = Annotated[float, Ge(0), Le(1)]
Bound = Count | Share | Annotated[list[Count | Share], Len(1, 2)]
"""An integer is a number, a float a share; of a list, the least applies."""

DEFAULT_SPREAD_HOURS = 12.0
"""How far apart the files of an export may have been written, unless the configuration sets it."""

_BOUND = "a whole number up to 1,000,000,000,000, a share from 0.0 to 1.0, or a list of both"


class GuardProblem(NamedTuple):
    """An error in the settings of the guards."""

    key: str
    clause: str
    """Follows the key: `should be …`."""
    detail: str = ""
    """More on the cause; it may repeat a part of the value."""


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """The limits at which guards block; a share is of the cohort's members, or of the rows read."""

    max_removals: Bound = field(default=0.1, metadata={"should_be": _BOUND})
    """The most removals: a number, a share of the cohort's members, or a list of both."""
    max_additions: Bound = field(default=0.5, metadata={"should_be": _BOUND})
    """The most additions, in the same form."""
    small_cohort: Count = 1000
    """With fewer members, the shares of additions and removals do not apply."""
    expected_size: list[Count] | None = field(
        default=None,
        metadata={"should_be": "[least, most], two whole numbers up to 1,000,000,000,000"},
    )
    """Uids that the export may hold, duplicates counted once; on the first run too."""
    max_invalid: Bound = field(default=0.05, metadata={"should_be": _BOUND})
    """The most invalid rows: a number, a share of the rows read, or a list of both."""
    max_duplicates: Bound = field(default=0.5, metadata={"should_be": _BOUND})
    """The most duplicate rows, in the same form."""
    uid_pattern: str | None = None
    """A regular expression (RE2) that must match the whole of each uid."""
    same_shape: bool = True
    """Whether the uids' alphabet and length must be those of the last export."""
    max_age_hours: Annotated[float, Ge(0), Le(1_000_000)] | None = None
    """How long ago the export may have been written."""
    max_spread_hours: Annotated[float, Ge(0), Le(1_000_000)] | None = None
    """How far apart its files may have been written. None: `DEFAULT_SPREAD_HOURS`, and files whose
    times are unknown are only reported; with a number they block."""

    @property
    def problem(self) -> GuardProblem | None:
        """The first error in values that are valid by themselves; None if there is none."""
        size = self.expected_size
        if size is not None and (len(size) != _ENDS or size[0] > size[-1]):
            return GuardProblem("expected_size", "should be [least, most], the least first")
        if self.uid_pattern is None:
            return None
        if not self.uid_pattern or "\0" in self.uid_pattern:
            clause = "should be a regular expression, not empty or with NUL"
            return GuardProblem("uid_pattern", clause)
        return _pattern_problem(self.uid_pattern)


def _pattern_problem(pattern: str) -> GuardProblem | None:
    """Return why a text is not a regular expression of RE2; None if it is one."""
    # These imports are large, and most commands check no pattern.
    import pyarrow as pa  # noqa: PLC0415 - see above
    import pyarrow.compute as pc  # noqa: PLC0415 - see above

    try:
        pc.match_substring_regex(pa.array(["x"]), pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix(_ARROW_WORDS).partition("\n")[0]
        clause = "is no regular expression"
        return GuardProblem("uid_pattern", clause, repr(reason[:80])[1:-1])
    return None


_ENDS = 2
_ARROW_WORDS = "Invalid regular expression: "
