"""The command that leads on after a cohort or run that needs attention."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.errors import ExitStatus


class NextStep(NamedTuple):
    """What to do next."""

    command: str
    hint: str | None = None
    """What else leads on, if the command alone does not."""


def first_step(key: str) -> NextStep:
    """Return what to do with a configured cohort that never ran."""
    return NextStep(f"cohortsync sync {shlex.quote(key)}")


_RUN_AGAIN = "run the same command again: it continues where this run stopped"


def next_step(
    exit_status: int | None,
    run: str | None,
    *,
    synced_as: str | None,
    mode: str | None,
    guards: Sequence[Mapping[str, Any]],
) -> NextStep | None:
    """Return what to do about an exit status; None if it is 0.

    `synced_as` is the cohort's key if a sync ran it. `guards` are those of a mirror's plan.
    """
    again = f"cohortsync sync {shlex.quote(synced_as)}" if synced_as else None
    shown = f"cohortsync show {run}" if run else "cohortsync check"
    match exit_status:
        case ExitStatus.ACCEPTED:
            return None
        case ExitStatus.PARTIAL if run:
            return NextStep(f"cohortsync rejects {run}")
        case ExitStatus.GUARDED:
            return _guarded(shown, run, synced_as, guards)
        case ExitStatus.REFUSED:
            return NextStep("cohortsync check --live", _again_hint(again))
        case ExitStatus.UNBALANCED:
            return NextStep(shown, "this is a bug in cohortsync: keep the state folder, report it")
        case ExitStatus.INCOMPLETE | ExitStatus.USAGE | None if again:
            return NextStep(again)
        case ExitStatus.INCOMPLETE if run and mode not in {"mirror", "changes"}:
            return NextStep(f"cohortsync resume {run}")
        case ExitStatus.INCOMPLETE:
            return NextStep(shown, "run the same mirror again: it plans anew")
        case ExitStatus.USAGE:
            return NextStep(shown, _RUN_AGAIN)
        case _:
            return NextStep(shown)


def _again_hint(again: str | None) -> str:
    return f"then `{again}`" if again else f"then {_RUN_AGAIN}"


def _guarded(
    shown: str, run: str | None, synced_as: str | None, guards: Sequence[Mapping[str, Any]]
) -> NextStep:
    """Return what to do about guards that block: how to see them, and the command to lift them."""
    if run is None and synced_as is not None:
        command = f"cohortsync sync {shlex.quote(synced_as)} --dry-run"
        return NextStep(command, "it shows the guard, and what lifts it")
    return _lift(shown, synced_as, guards) or NextStep(shown)


def _lift(
    shown: str, synced_as: str | None, guards: Sequence[Mapping[str, Any]]
) -> NextStep | None:
    """Return the command that lifts the guards that block; None if one cannot be lifted."""
    blocking = [each for each in guards if each["verdict"] == "blocks"]
    overrides = [each["override"] for each in blocking]
    if not overrides or None in overrides:
        return None
    hint = next((each["hint"] for each in blocking if each.get("hint")), "look at the export")
    allowed = [each.partition(" --reason")[0].removeprefix("--allow ") for each in overrides]
    if synced_as is None:
        flags = " ".join(f"--allow {each}" for each in allowed)
        again = f'run it again with `{flags} --reason "…"`'
        return NextStep(shown, f"{hint}; if it is right, {again}")
    flags = " ".join(f"--allow {shlex.quote(f'{synced_as}:{each}')}" for each in allowed)
    lifted = f'cohortsync sync {shlex.quote(synced_as)} {flags} --reason "…"'
    return NextStep(shown, f"{hint}; if it is right: `{lifted}`")
