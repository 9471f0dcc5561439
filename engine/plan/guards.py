"""What must hold before anything is sent: a bad export is noticed here, or it empties an audience.

Each guard judges the same facts and says one sentence; one that blocks says how to lift it, to a
bound and for one run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Le, Len

from engine.errors import UsageError
from engine.plan.profile import Profile

Count = Annotated[int, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Bound = Count | Share | Annotated[list[Count | Share], Len(1, 2)]
"""An integer is a number, a float a share; of a list, whatever is least."""

_BOUND = "a whole number, a share from 0.0 to 1.0, or a list of both"


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Where each guard blocks; a share is of the cohort's members, or of the rows read."""

    max_removals: Bound = field(default=0.1, metadata={"should_be": _BOUND})
    max_additions: Bound = field(default=0.5, metadata={"should_be": _BOUND})
    small_cohort: Count = 1000
    """Below so many members a share of additions or removals says nothing, and blocks nothing."""
    expected_size: list[Count] | None = field(
        default=None, metadata={"should_be": "[least, most], two whole numbers"}
    )
    """Uids that the export may hold, duplicates counted once; on the first run too."""
    max_invalid: Bound = field(default=0.05, metadata={"should_be": _BOUND})
    max_duplicates: Bound = field(default=0.5, metadata={"should_be": _BOUND})
    uid_pattern: str | None = None
    """A regular expression (RE2) that the whole of each uid matches."""
    same_shape: bool = True
    """Whether uids have to look as they did last time."""
    max_age_hours: Annotated[float, Ge(0), Le(1_000_000)] | None = None
    """How long ago the export may have been written."""

    @property
    def problem(self) -> str | None:
        """What is wrong with the table as a whole; None if nothing is."""
        size = self.expected_size
        if size is not None and (len(size) != _ENDS or size[0] > size[-1]):
            return "`guards.expected_size` should be [least, most], the least first"
        if self.uid_pattern is not None:
            try:
                pc.match_substring_regex(pa.array(["x"]), self.uid_pattern)
            except pa.ArrowInvalid as error:
                return f"`guards.uid_pattern` is no regular expression: {error}"
        return None


_ENDS = 2


class Guard(StrEnum):
    """Each guard, by the name that `--allow` takes."""

    REMOVALS = "removals"
    ADDITIONS = "additions"
    SIZE = "size"
    EMPTY = "empty"
    INVALID = "invalid"
    DUPLICATES = "duplicates"
    PATTERN = "pattern"
    SHAPE = "shape"
    OLDER = "older"
    AGE = "age"
    NAME = "name"


COUNTED = frozenset(
    {
        Guard.REMOVALS,
        Guard.ADDITIONS,
        Guard.SIZE,
        Guard.INVALID,
        Guard.DUPLICATES,
        Guard.PATTERN,
    }
)
"""Guards that are lifted to a number; the others as a whole."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A guard lifted for one run, up to a bound."""

    guard: Guard
    bound: int | None = None
    """None where the guard has no number."""

    @classmethod
    def parse(cls, text: str) -> "Allowance":
        """Read what `--allow` takes: `removals=1200000`, or `shape`. Raises `UsageError`."""
        name, equals, number = text.partition("=")
        known = [guard.value for guard in Guard if guard is not Guard.EMPTY]
        if name == Guard.EMPTY:
            raise UsageError(
                "--allow empty: an empty export is never sent",
                hint="to empty a cohort, push what it holds with --action remove",
            )
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise UsageError(
                f"--allow {text}: no guard is called '{name}'",
                hint=f"did you mean '{near}'? There are: {', '.join(known)}",
            )
        guard = Guard(name)
        if guard not in COUNTED:
            if equals:
                raise UsageError(f"--allow {text}: '{name}' takes no number")
            return cls(guard)
        digits = number.replace("_", "").replace(",", "")
        if not (digits.isascii() and digits.isdigit()):
            raise UsageError(
                f"--allow {text}: how many?", hint=f"--allow {name}=1200000 lifts it so far"
            )
        return cls(guard, int(digits))


@dataclass(frozen=True, slots=True)
class Facts:
    """What the guards judge."""

    members: int
    """Uids that the snapshot has in, or perhaps in."""
    adds: int
    """Uids to be added that are not in for certain: what may be in already grows no audience."""
    adds_left: int
    """How many of those the guards let pass on an earlier night that was not sent to its end."""
    removes: int
    desired: int
    """Uids of the export, duplicates counted once."""
    rows_read: int
    invalid: int
    duplicates: int
    misfits: int
    """Uids that the pattern does not match, duplicates counted each."""
    profile: Profile
    last_profile: Profile | None
    """Of the export mirrored last; None the first time."""
    exported_utc_ns: int | None
    """When the last of the export's files was written; None where nobody knows."""
    oldest_utc_ns: int | None
    """When the first of them was: one that was not written anew tonight is as old as the export."""
    last_exported_utc_ns: int | None
    now_utc_ns: int
    name: str
    last_name: str | None
    """The cohort's name at the last mirror; None the first time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one guard says of a plan."""

    guard: Guard
    blocks: bool
    sentence: str
    override: str | None = None
    """What lifts it; None if nothing does, or nothing need."""
    is_lifted: bool = False
    """Whether it would block, were it not for an allowance."""


@dataclass(frozen=True, slots=True)
class _Finding:
    """A verdict before allowances: what was found, and how much of it."""

    is_bad: bool
    sentence: str
    count: int = 0
    """What an allowance is about."""
    is_too_few: bool = False
    """Whether an allowance names the least, and not the most."""

    def is_within(self, bound: int | None) -> bool:
        """Say whether an allowance goes so far; None goes any way."""
        if bound is None:
            return True
        return self.count >= bound if self.is_too_few else self.count <= bound


def judge(
    facts: Facts, settings: GuardSettings, allowances: Sequence[Allowance] = ()
) -> list[Verdict]:
    """Return the verdict of every guard, in their order."""
    bounds = {allowance.guard: allowance.bound for allowance in allowances}
    return [_verdict(guard, _FINDERS[guard](facts, settings), bounds) for guard in Guard]


def _verdict(guard: Guard, found: _Finding, bounds: Mapping[Guard, int | None]) -> Verdict:
    if not found.is_bad:
        return Verdict(guard, blocks=False, sentence=found.sentence)
    if guard in bounds and guard is not Guard.EMPTY and found.is_within(bounds[guard]):
        return Verdict(guard, blocks=False, sentence=found.sentence, is_lifted=True)
    if guard is Guard.EMPTY:
        return Verdict(guard, blocks=True, sentence=found.sentence)
    number = f"={found.count}" if guard in COUNTED else ""
    override = f'--allow {guard.value}{number} --reason "…"'
    return Verdict(guard, blocks=True, sentence=found.sentence, override=override)


def limit_of(bound: Bound, whole: int, *, shares: bool = True) -> float:
    """Return the most that a bound lets pass, of `whole`; infinity if it says nothing."""
    each = bound if isinstance(bound, list) else [bound]
    found = [
        float(part) if isinstance(part, int) else part * whole
        for part in each
        if shares or isinstance(part, int)
    ]
    return min(found, default=float("inf"))


def _changes(what: str, count: int, bound: Bound, facts: Facts, small: int) -> _Finding:
    limit = limit_of(bound, facts.members, shares=facts.members >= small)
    share = f" ({count / facts.members:.1%})" if facts.members else ""
    of = f"{count:,} {what} of a cohort of {facts.members:,}{share}"
    if count <= limit:
        return _Finding(is_bad=False, sentence=of, count=count)
    return _Finding(is_bad=True, sentence=f"{of}; at most {int(limit):,} are allowed", count=count)


def _removals(facts: Facts, settings: GuardSettings) -> _Finding:
    return _changes("removals", facts.removes, settings.max_removals, facts, settings.small_cohort)


def _additions(facts: Facts, settings: GuardSettings) -> _Finding:
    # What a night has left over was judged when that night began, by what the cohort was then.
    count = max(0, facts.adds - facts.adds_left)
    found = _changes("additions", count, settings.max_additions, facts, settings.small_cohort)
    if not facts.adds_left or facts.adds == count:
        return found
    left = f"{facts.adds - count:,} more were let pass on a night that was not sent to its end"
    return replace(found, sentence=f"{found.sentence}; {left}")


def _size(facts: Facts, settings: GuardSettings) -> _Finding:
    found = f"{facts.desired:,} uids wanted"
    if settings.expected_size is None:
        return _Finding(is_bad=False, sentence=found, count=facts.desired)
    least, most = settings.expected_size
    is_bad = not least <= facts.desired <= most
    sentence = f"{found}, and {least:,} to {most:,} expected"
    return _Finding(is_bad, sentence, facts.desired, is_too_few=facts.desired < least)


def _empty(facts: Facts, _: GuardSettings) -> _Finding:
    if facts.desired:
        return _Finding(is_bad=False, sentence="the export holds uids")
    return _Finding(is_bad=True, sentence="the export holds no uid: it would empty the cohort")


def _of_rows(what: str, count: int, bound: Bound, facts: Facts) -> _Finding:
    limit = limit_of(bound, facts.rows_read)
    of = f"{count:,} {what} rows of {facts.rows_read:,}"
    if count <= limit:
        return _Finding(is_bad=False, sentence=of, count=count)
    return _Finding(is_bad=True, sentence=f"{of}; at most {int(limit):,} are allowed", count=count)


def _invalid(facts: Facts, settings: GuardSettings) -> _Finding:
    return _of_rows("invalid", facts.invalid, settings.max_invalid, facts)


def _duplicates(facts: Facts, settings: GuardSettings) -> _Finding:
    return _of_rows("duplicate", facts.duplicates, settings.max_duplicates, facts)


def _pattern(facts: Facts, settings: GuardSettings) -> _Finding:
    if settings.uid_pattern is None:
        return _Finding(is_bad=False, sentence="no pattern is set")
    sentence = f"{facts.misfits:,} uids do not match the pattern {settings.uid_pattern}"
    return _Finding(facts.misfits > 0, sentence, facts.misfits)


_CHANGED_SHAPE = 0.5
"""The share of uids that look otherwise from which on the export is taken for another one."""


def _shape(facts: Facts, settings: GuardSettings) -> _Finding:
    if facts.last_profile is None or not settings.same_shape:
        return _Finding(is_bad=False, sentence="nothing to compare the uids' looks with")
    distance = facts.profile.distance(facts.last_profile)
    if distance <= _CHANGED_SHAPE:
        return _Finding(is_bad=False, sentence=f"{distance:.0%} of the uids look otherwise")
    return _Finding(
        is_bad=True,
        sentence=f"{distance:.0%} of the uids look otherwise than last time: mostly "
        f"{facts.profile.usual} characters, and {facts.last_profile.usual} then",
    )


def _older(facts: Facts, _: GuardSettings) -> _Finding:
    now, last = facts.exported_utc_ns, facts.last_exported_utc_ns
    if now is None or last is None:
        return _Finding(is_bad=False, sentence="no earlier export to compare its time with")
    sentence = f"the export is of {_moment(now)}, the one mirrored last of {_moment(last)}"
    return _Finding(now < last, sentence)


def _age(facts: Facts, settings: GuardSettings) -> _Finding:
    if settings.max_age_hours is None or facts.oldest_utc_ns is None:
        return _Finding(is_bad=False, sentence="no age is asked for, or none known")
    hours = (facts.now_utc_ns - facts.oldest_utc_ns) / 3.6e12
    sentence = (
        f"the oldest of the export's files is {hours:,.1f} h old, and {settings.max_age_hours:g} h "
        "are allowed"
    )
    return _Finding(hours > settings.max_age_hours, sentence)


def _name(facts: Facts, _: GuardSettings) -> _Finding:
    if facts.last_name is None:
        return _Finding(is_bad=False, sentence="it was not mirrored before")
    if facts.last_name == facts.name:
        return _Finding(is_bad=False, sentence="the cohort is called as before")
    return _Finding(
        is_bad=True,
        sentence=f"the cohort was called '{facts.last_name}' and is '{facts.name}' now: is the "
        "id right?",
    )


_FINDERS: Mapping[Guard, Callable[[Facts, GuardSettings], _Finding]] = {
    Guard.REMOVALS: _removals,
    Guard.ADDITIONS: _additions,
    Guard.SIZE: _size,
    Guard.EMPTY: _empty,
    Guard.INVALID: _invalid,
    Guard.DUPLICATES: _duplicates,
    Guard.PATTERN: _pattern,
    Guard.SHAPE: _shape,
    Guard.OLDER: _older,
    Guard.AGE: _age,
    Guard.NAME: _name,
}


def _moment(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).isoformat(timespec="seconds")
