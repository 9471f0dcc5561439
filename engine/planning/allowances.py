"""The guards by their names, and the allowances that lift each for one run."""

import getpass
import os
import shlex
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from engine.errors import UsageError


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
    SPREAD = "spread"
    NAME = "name"
    RESTORED = "restored"


COUNTED = frozenset(
    {
        *(Guard.REMOVALS, Guard.ADDITIONS, Guard.SIZE),
        *(Guard.INVALID, Guard.DUPLICATES, Guard.PATTERN),
    }
)
"""Guards that an allowance lifts up to a number; it lifts the others as a whole."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A guard lifted for one run, up to a bound."""

    guard: Guard
    bound: int | None = None
    """None if the guard has no number."""

    @classmethod
    def parse(cls, text: str) -> "Allowance":
        """Parse a value of `--allow`: `removals=1200000`, or `shape`. Raises `UsageError`."""
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
        if int(digits) > _LARGEST_BOUND:
            raise UsageError(f"--allow {name}: at most {_LARGEST_BOUND:,} can be allowed")
        return cls(guard, int(digits))

    @property
    def flag(self) -> str:
        """The command-line flag of this allowance."""
        return f"--allow {self.guard.value}{'' if self.bound is None else f'={self.bound}'}"


_LARGEST_BOUND = 1_000_000_000_000


def read_allowances(texts: Sequence[str], reason: str | None) -> list[Allowance]:
    """Parse all values of `--allow`.

    Raises `UsageError` for values without a reason, and for a guard that is lifted twice.
    """
    if texts and not (reason or "").strip():
        raise UsageError("--allow needs a --reason", hint='--reason "why"; it is kept')
    found = [Allowance.parse(text) for text in texts]
    for guard, times in Counter(each.guard for each in found).items():
        if times > 1:
            raise UsageError(f"--allow {guard.value} is given {times} times")
    return found


def read_push_allowances(texts: Sequence[str], reason: str | None) -> list[Allowance]:
    """Parse those of a push; raises `UsageError` for a guard that only a mirror has."""
    found = read_allowances(texts, reason)
    for each in found:
        if each.guard is not Guard.NAME:
            raise UsageError(
                f"{each.flag}: a push does not have this guard",
                hint="a push has the guard 'name' alone",
            )
    return found


def flags_to_lift(
    overrides: Sequence[str],
    allowances: Sequence[Allowance],
    reason: str | None,
    synced_as: str | None = None,
) -> str:
    """Return the flags of all given allowances, and of those that each `override` proposes.

    For a cohort that a sync runs, `synced_as` is its key, and the whole command is returned.
    """
    flags = [override.partition(" --reason")[0] for override in overrides]
    raised = {Allowance.parse(flag.removeprefix("--allow ")).guard for flag in flags}
    given = [each.flag for each in allowances if each.guard not in raised]
    why = shlex.quote(reason) if reason else '"why"'
    if synced_as is None:
        return " ".join([*given, *flags, f"--reason {why}"])
    guards = [flag.removeprefix("--allow ") for flag in (*given, *flags)]
    allowed = " ".join(f"--allow {shlex.quote(f'{synced_as}:{each}')}" for each in guards)
    return f"cohortsync sync {shlex.quote(synced_as)} {allowed} --reason {why}"


def attributed(allowances: Sequence[Allowance], reason: str | None) -> list[dict[str, Any]]:
    """Return which guards are lifted, by whom and why, as the ledger keeps it."""
    who = {"user": _user(), "host": socket.gethostname()}
    return [
        {"guard": each.guard.value, "bound": each.bound, **who, "reason": reason}
        for each in allowances
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container may run under a user number without a name.
        return str(os.getuid())
