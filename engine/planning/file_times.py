"""The guards of the times at which an export's files were written.

A time is unknown if the store or the pipe has none, or if it is in the future. A guard that the
configuration sets then blocks; a guard that is on by default reports that it was not checked.
"""

import os.path
from collections.abc import Sequence
from fnmatch import fnmatchcase

from engine.planning.guard_finding import GuardFinding, passes
from engine.planning.settings import DEFAULT_SPREAD_HOURS
from engine.source.source_file import SourceFile, utc_minute

_HOUR_NS = 3_600_000_000_000
_CLOCK_SKEW_NS = _HOUR_NS
"""How far ahead of this machine's clock a file's time may be."""
_NO_FILES = "it is not read from files"


def judge_age(
    files: Sequence[SourceFile], now_utc_ns: int, most_hours: float | None
) -> GuardFinding:
    """Judge whether any of the files is older than `most_hours`; None allows any age."""
    if most_hours is None:
        return passes("no age is set")
    if not files:
        return passes(_NO_FILES)
    dated = _dated(files, now_utc_ns)
    if dated:
        hours = (now_utc_ns - _written(dated[0])) / _HOUR_NS
        sentence = (
            f"the oldest of the export's files is {hours:,.1f} h old, and {most_hours:g} h are "
            "allowed"
        )
        if hours > most_hours:
            return GuardFinding(is_bad=True, sentence=sentence)
    if len(dated) < len(files):
        return _unknown(files, now_utc_ns, "guards.max_age_hours", is_configured=True)
    return passes(sentence)


def judge_spread(
    files: Sequence[SourceFile], now_utc_ns: int, max_spread_hours: float | None
) -> GuardFinding:
    """Judge whether the files were written further apart than `guards.max_spread_hours` allows."""
    is_configured = max_spread_hours is not None
    most_hours = DEFAULT_SPREAD_HOURS if max_spread_hours is None else max_spread_hours
    if not files:
        return passes(_NO_FILES)
    if len(files) == 1:
        return passes("it is one file")
    dated = sorted((f for f in files if f.written_utc_ns is not None), key=_written)
    if dated:
        oldest, newest = dated[0], dated[-1]
        hours = (_written(newest) - _written(oldest)) / _HOUR_NS
        sentence = (
            f"{len(files):,} files, written {hours:,.1f} h apart, and {most_hours:g} h are allowed"
        )
        if hours > most_hours:
            ends = [
                f"{each.name} of {utc_minute(_written(each), _written(other))}"
                for each, other in ((oldest, newest), (newest, oldest))
            ]
            return GuardFinding(
                is_bad=True,
                sentence=f"{sentence}: from {ends[0]} to {ends[1]} UTC",
                hint=f"name only what was written last: {_newest_glob(dated, most_hours)}",
            )
    if len(_dated(files, now_utc_ns)) < len(files):
        return _unknown(files, now_utc_ns, "guards.max_spread_hours", is_configured=is_configured)
    return passes(sentence)


def _written(file: SourceFile) -> int:
    return file.written_utc_ns or 0


def _dated(files: Sequence[SourceFile], now_utc_ns: int) -> list[SourceFile]:
    """Return the files whose time is known and plausible, the oldest first."""
    latest = now_utc_ns + _CLOCK_SKEW_NS
    found = [f for f in files if f.written_utc_ns is not None and f.written_utc_ns <= latest]
    return sorted(found, key=_written)


def _unknown(
    files: Sequence[SourceFile], now_utc_ns: int, key: str, *, is_configured: bool
) -> GuardFinding:
    dated = {file.name for file in _dated(files, now_utc_ns)}
    undated = [file for file in files if file.name not in dated]
    more = f" and {len(undated) - 1:,} more" if len(undated) > 1 else ""
    is_set = f", and {key} is set" if is_configured else ""
    is_ahead = undated[0].written_utc_ns is not None
    why = f": {undated[0].name} is dated in the future" if is_ahead else ""
    return GuardFinding(
        is_bad=is_configured,
        sentence=f"the time of writing of {undated[0].name}{more} is unknown{is_set}{why}",
        is_unknown=True,
        hint="name files whose time of writing is known" if is_configured else None,
    )


def _newest_glob(dated: Sequence[SourceFile], most_hours: float) -> str:
    """Return a name or a glob that matches the files written last, and none of the older ones."""
    since = _written(dated[-1]) - most_hours * _HOUR_NS
    newest = [file.name for file in dated if _written(file) >= since]
    older = [file.name for file in dated if _written(file) < since]
    if len(newest) == 1:
        return newest[0]
    start = os.path.commonprefix(newest)  # noqa: RUF071 - character by character, as a glob has it
    tails = [name[len(start) :][::-1] for name in newest]
    end = os.path.commonprefix(tails)[::-1]  # noqa: RUF071 - as above
    glob = f"'{start}*{end}'"
    if any(fnmatchcase(name, glob[1:-1]) for name in older):
        return f"{newest[0]} and {len(newest) - 1:,} more"
    return glob
