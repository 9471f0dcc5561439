"""The text of notifications: the verdict, each cohort with its problems, and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.notices.problems import RECOVERY, CohortNews
from engine.notices.settings import NotifySettings
from engine.report.accounts import Accounts
from engine.report.next_step import next_step

_MOST_COHORTS = 20
"""Cohorts that a message describes; some services cut long messages."""
_LONGEST_SENTENCE = 500


@dataclass(frozen=True, slots=True)
class Message:
    """One notification."""

    title: str
    body: str
    level: Literal["failure", "success"]
    """Services show it as a color or an icon."""


def message_of(news: Sequence[CohortNews], settings: NotifySettings) -> Message | None:
    """Return what one recipient is told of the cohorts; None if nothing is new to them."""
    worse = [each for each in news if each.is_worse]
    better = [each for each in news if each.is_recovered and RECOVERY in settings.events]
    if not worse and not better:
        return None
    parts = []
    if worse:
        parts.append(_counted(worse, "needs attention", "need attention"))
    if better:
        parts.append(_counted(better, "has recovered", "have recovered"))
    told = [*map(_problem_lines, worse), *map(_recovery_line, better)]
    if len(told) > _MOST_COHORTS:
        left = len(told) - _MOST_COHORTS
        told = [*told[:_MOST_COHORTS], f"… and {left:,} more: cohortsync report"]
    return Message(
        title=f"cohortsync: {', '.join(parts)}",
        body="\n".join(told),
        level="failure" if worse else "success",
    )


def _counted(news: Sequence[CohortNews], one: str, several: str) -> str:
    if len(news) == 1:
        return f"{news[0].cohort.name} {one}"
    return f"{len(news):,} cohorts {several}"


def _problem_lines(news: CohortNews) -> str:
    sentences = "; ".join(each.sentence for each in news.findings)
    if len(sentences) > _LONGEST_SENTENCE:
        sentences = f"{sentences[:_LONGEST_SENTENCE]}…"
    return f"✗ {_title(news)}: {sentences}\n  next: {_next(news)}"


def _next(news: CohortNews) -> str:
    result = news.result
    again = f"cohortsync sync {news.cohort.key}"
    if result is None:
        return again
    run = result.run.accounts.run if result.run else None
    step = next_step(
        int(result.exit_status), run, synced_as=news.cohort.key, mode=result.mode, guards=()
    )
    command = step.command if step else f"cohortsync show {run}" if run else again
    hint = result.hint or (step.hint if step else None)
    return f"{command} ({hint})" if hint else command


def _recovery_line(news: CohortNews) -> str:
    run = news.result.run if news.result else None
    done = f": {changes(run.accounts)}" if run else ""
    return f"✓ {_title(news)} has recovered{done}"


def _title(news: CohortNews) -> str:
    cohort = news.cohort
    return cohort.name if cohort.name == cohort.key else f"{cohort.name} ({cohort.key})"


def changes(accounts: Accounts) -> str:
    """Return what a run has changed: `51 added, 100 removed, 1,949 unchanged`."""
    added, removed = changed(accounts)
    unchanged = accounts.mirror.unchanged if accounts.mirror else None
    parts = []
    if accounts.mirror or accounts.action != "remove":
        parts.append(f"{added:,} added")
    if accounts.mirror or accounts.action == "remove":
        parts.append(f"{removed:,} removed")
    if unchanged is not None:
        parts.append(f"{unchanged:,} unchanged")
    return ", ".join(parts)


def changed(accounts: Accounts) -> tuple[int, int]:
    """Return how many uids a run has added and removed, by the API's acceptances."""
    if accounts.mirror is not None:
        return accounts.mirror.add.accepted, accounts.mirror.remove.accepted
    is_add = accounts.action == "add"
    accepted = accounts.uids.accepted
    return (accepted, 0) if is_add else (0, accepted)
