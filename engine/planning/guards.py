"""The guards: the checks of a plan before its first request is sent.

Each guard judges the same facts and returns one sentence; a guard that blocks says how to lift it,
up to a bound and for one run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isinf

from engine.model.quantity import counted
from engine.planning.allowances import COUNTED, Allowance, Guard
from engine.planning.file_times import judge_age, judge_spread
from engine.planning.guard_finding import GuardFinding, passes
from engine.planning.profile import Profile
from engine.planning.settings import Bound, GuardSettings
from engine.source.source_file import SourceFile, utc_minute


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that the guards judge."""

    members: int
    """Uids that are or may be members, by the snapshot."""
    adds: int
    """Uids to be added that are certainly not members yet."""
    adds_left: int
    """The number of those that the guards passed for an earlier run that was not completed."""
    removes: int
    desired: int
    """Uids that should be members, duplicates counted once; 0 for a list of changes."""
    rows_read: int
    invalid: int
    duplicates: int
    misfits: int
    """Uids that do not match the pattern, each duplicate counted."""
    profile: Profile
    last_profile: Profile | None
    """Of the export mirrored last; None for the first mirror."""
    files: Sequence[SourceFile]
    """The export's files; none if it is an earlier generation of the cohort."""
    exported_utc_ns: int | None
    """When the last of the files was written; None if the time of any file is unknown."""
    last_exported_utc_ns: int | None
    """The same for the export mirrored last."""
    now_utc_ns: int
    name: str
    last_name: str | None
    """The cohort's name when something was last sent to it; None if nothing was."""
    excluded: int = 0
    """Rows whose uid is in the exclusion list; they do not count as `desired`."""
    lists_changes: bool = False
    """Whether the export names only what changes, so that its size and repeated uids say nothing;
    `duplicates` are rows that a later one has superseded."""
    backup_utc_ns: int | None = None
    """When the backup was made that the cohort's snapshot was restored from; None if it was not
    restored, or if a mirror or a list of the members has replaced it since."""


@dataclass(frozen=True, slots=True)
class GuardResult:
    """The result of one guard."""

    guard: Guard
    blocks: bool
    sentence: str
    override: str | None = None
    """The flag that lifts it; None if there is none or none is needed."""
    is_lifted: bool = False
    """Whether it would block without an allowance."""
    is_unknown: bool = False
    """Whether it neither blocks nor was checked, since a fact is missing."""
    hint: str | None = None
    """What to do about a guard that blocks, other than to lift it."""
    count: int = 0
    """The number that the guard limits; 0 if it limits none."""
    limit: int | None = None
    """The most, by the configuration, that it lets through; None if it has no such limit."""


def judge(
    facts: Facts, settings: GuardSettings, allowances: Sequence[Allowance] = ()
) -> list[GuardResult]:
    """Return the result of every guard, in their order."""
    bounds = {allowance.guard: allowance.bound for allowance in allowances}
    return [_verdict(guard, _FINDERS[guard](facts, settings), bounds) for guard in Guard]


def _verdict(guard: Guard, found: GuardFinding, bounds: Mapping[Guard, int | None]) -> GuardResult:
    result = GuardResult(
        guard,
        blocks=False,
        sentence=found.sentence,
        is_unknown=found.is_unknown and not found.is_bad,
        count=found.count,
        limit=found.limit,
    )
    if not found.is_bad:
        return result
    sentence = found.sentence + _limit_in_effect(guard, found, bounds.get(guard))
    if guard is Guard.EMPTY:
        return replace(result, blocks=True, sentence=sentence)
    if guard in bounds and found.is_within(bounds[guard]):
        return replace(result, sentence=sentence, is_lifted=True)
    allowance = Allowance(guard, found.count if guard in COUNTED else None)
    override = f'{allowance.flag} --reason "…"'
    return replace(result, blocks=True, sentence=sentence, override=override, hint=found.hint)


def _limit_in_effect(guard: Guard, found: GuardFinding, bound: int | None) -> str:
    """Return a clause with the allowed number and the source of this limit."""
    side = "at least" if found.is_too_few else "at most"
    if bound is None:
        return "" if found.limit is None else f"; {side} {found.limit:,} are allowed"
    flag = Allowance(guard, bound).flag
    if found.limit is not None and bound < found.limit:
        return f"; {side} {found.limit:,} are allowed, which is more than {flag}"
    return f"; {side} {bound:,} are allowed by {flag}"


def limit_of(bound: Bound, whole: int, *, shares: bool = True) -> float:
    """Return the most that a bound allows of `whole`; infinity if it has no limit."""
    each = bound if isinstance(bound, list) else [bound]
    found = [
        float(part) if isinstance(part, int) else part * whole
        for part in each
        if shares or isinstance(part, int)
    ]
    return min(found, default=float("inf"))


def _changes(what: str, count: int, bound: Bound, facts: Facts, small: int) -> GuardFinding:
    limit = limit_of(bound, facts.members, shares=facts.members >= small)
    share = f" ({count / facts.members:.1%})" if facts.members else ""
    return _at_most(limit, count, f"{counted(count, what)} of a cohort of {facts.members:,}{share}")


def _at_most(limit: float, count: int, sentence: str) -> GuardFinding:
    if count <= limit:
        return passes(sentence, count, None if isinf(limit) else int(limit))
    return GuardFinding(is_bad=True, sentence=sentence, count=count, limit=int(limit))


def _removals(facts: Facts, settings: GuardSettings) -> GuardFinding:
    return _changes("removal", facts.removes, settings.max_removals, facts, settings.small_cohort)


def _additions(facts: Facts, settings: GuardSettings) -> GuardFinding:
    # An earlier run judged the additions it left, by the cohort's size at that time.
    count = max(0, facts.adds - facts.adds_left)
    found = _changes("addition", count, settings.max_additions, facts, settings.small_cohort)
    if not facts.adds_left or facts.adds == count:
        return found
    left = f"{facts.adds - count:,} more were allowed in an earlier run that was not completed"
    return replace(found, sentence=f"{found.sentence}; {left}")


_CHANGES = "the export names only what changes"


def _size(facts: Facts, settings: GuardSettings) -> GuardFinding:
    if facts.lists_changes:
        return passes(_CHANGES)
    found = f"{counted(facts.desired, 'uid')} wanted"
    if settings.expected_size is None:
        return passes(found, facts.desired)
    least, most = settings.expected_size
    is_bad = not least <= facts.desired <= most
    sentence = f"{found}, and {least:,} to {most:,} expected"
    return GuardFinding(is_bad, sentence, count=facts.desired, is_too_few=facts.desired < least)


def _empty(facts: Facts, _: GuardSettings) -> GuardFinding:
    if facts.lists_changes:
        return passes(_CHANGES)
    if facts.desired:
        return passes("the export holds uids")
    found = "each uid of the export is excluded" if facts.excluded else "the export holds no uid"
    return GuardFinding(is_bad=True, sentence=f"{found}: it would empty the cohort")


def _of_rows(what: str, count: int, bound: Bound, facts: Facts) -> GuardFinding:
    sentence = f"{counted(count, f'{what} row')} of {facts.rows_read:,}"
    return _at_most(limit_of(bound, facts.rows_read), count, sentence)


def _invalid(facts: Facts, settings: GuardSettings) -> GuardFinding:
    return _of_rows("invalid", facts.invalid, settings.max_invalid, facts)


def _duplicates(facts: Facts, settings: GuardSettings) -> GuardFinding:
    if facts.lists_changes:
        return passes(f"{counted(facts.duplicates, 'row')} superseded by later ones")
    return _of_rows("duplicate", facts.duplicates, settings.max_duplicates, facts)


_SHOWN_PATTERN = 80
"""Characters of a pattern that are shown."""


def _pattern(facts: Facts, settings: GuardSettings) -> GuardFinding:
    if settings.uid_pattern is None:
        return passes("no pattern is set")
    pattern = settings.uid_pattern
    shown = pattern if len(pattern) <= _SHOWN_PATTERN else f"{pattern[:_SHOWN_PATTERN]}…"
    verb = "does" if facts.misfits == 1 else "do"
    sentence = f"{counted(facts.misfits, 'uid')} {verb} not match the pattern {shown}"
    return GuardFinding(facts.misfits > 0, sentence, count=facts.misfits)


_CHANGED_SHAPE = 0.5
"""The least share of uids of another form at which the export counts as another one."""


def _shape(facts: Facts, settings: GuardSettings) -> GuardFinding:
    if facts.last_profile is None or not settings.same_shape:
        return passes("no earlier export to compare the uids' form with")
    distance = facts.profile.distance(facts.last_profile)
    if distance <= _CHANGED_SHAPE:
        return passes(f"{distance:.0%} of the uids have another form")
    return GuardFinding(
        is_bad=True,
        sentence=f"{distance:.0%} of the uids have another form than last time: mostly "
        f"{facts.profile.usual} characters, and {facts.last_profile.usual} then",
    )


def _older(facts: Facts, _: GuardSettings) -> GuardFinding:
    now, last = facts.exported_utc_ns, facts.last_exported_utc_ns
    if not facts.files:
        return passes("it is not read from files")
    if last is None and facts.last_profile is None:
        return passes("no earlier export was mirrored")
    if now is None or last is None:
        which = "the export" if now is None else "the export mirrored last"
        sentence = f"the time of writing of {which} is unknown"
        return GuardFinding(is_bad=False, sentence=sentence, is_unknown=True)
    times = f"{utc_minute(now, last)}, the one mirrored last of {utc_minute(last, now)} UTC"
    return GuardFinding(now < last, f"the export is of {times}")


def _age(facts: Facts, settings: GuardSettings) -> GuardFinding:
    return judge_age(facts.files, facts.now_utc_ns, settings.max_age_hours)


def _spread(facts: Facts, settings: GuardSettings) -> GuardFinding:
    return judge_spread(facts.files, facts.now_utc_ns, settings.max_spread_hours)


def _name(facts: Facts, _: GuardSettings) -> GuardFinding:
    if facts.last_name is None:
        return passes("nothing was sent to it before")
    if facts.last_name == facts.name:
        return passes("the cohort is called as before")
    return GuardFinding(
        is_bad=True,
        sentence=f"the cohort was called '{facts.last_name}' and is '{facts.name}' now: is the "
        "id right?",
    )


def _restored(facts: Facts, _: GuardSettings) -> GuardFinding:
    if facts.backup_utc_ns is None:
        return passes("the snapshot was not restored from a backup")
    at = utc_minute(facts.backup_utc_ns, facts.now_utc_ns)
    return GuardFinding(
        is_bad=True,
        sentence=f"the snapshot was restored from a backup of {at} UTC: what was sent to the "
        "cohort after that is unknown",
        hint="take over each export that was sent since, by `cohortsync snapshot adopt EXPORT`: "
        "else the uids that it added stay, wanted or not",
    )


_FINDERS: Mapping[Guard, Callable[[Facts, GuardSettings], GuardFinding]] = {
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
    Guard.SPREAD: _spread,
    Guard.NAME: _name,
    Guard.RESTORED: _restored,
}
