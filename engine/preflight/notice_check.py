"""The part of the preflight on what a sync tells, writes and starts, besides its requests."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from datetime import date
from pathlib import Path

from engine.clock import SystemClock
from engine.config.cohort_settings import CohortSettings
from engine.config.loading import Project
from engine.errors import CohortSyncError, ConfigError
from engine.model.quantity import counted
from engine.model.time_of_day import local_time
from engine.notices.follow_up import inherited_variables
from engine.notices.notifier import Recipients
from engine.notices.web import read_address
from engine.preflight.finding import Finding, FindingStatus, failure
from engine.source.dates import expand_dates


async def check_notices(project: Project, workspaces: Collection[str]) -> AsyncIterator[Finding]:
    """Yield a finding for each kind of notice that is configured, and for each that would fail.

    Nothing is sent, written or started.
    """
    shared = project.shared
    if shared.notify.is_used:
        yield await _check_recipients(project)
    for name, url, is_secret in (
        ("pings.url", shared.pings.url, True),
        ("metrics.push_url", shared.metrics.push_url, False),
    ):
        if (checked := _check_address(project, name, url, is_secret=is_secret)) is not None:
            yield checked
    for name, target in (
        ("metrics.textfile", shared.metrics.textfile),
        ("report.html", shared.report.html),
    ):
        if target is not None:
            yield _check_target(name, Path(target))
    cohorts = [
        each for each in project.cohorts.values() if each.enabled and each.workspace in workspaces
    ]
    for finding in await asyncio.to_thread(lambda: [*_check_follow_ups(project, cohorts)]):
        yield finding


async def _check_recipients(project: Project) -> Finding:
    """Check that Apprise is there, that the URLs can be read, and that it takes each of them."""
    settings = project.shared.notify
    try:
        recipients = Recipients.read(str(project.path), settings)
        await recipients.check()
    except CohortSyncError as error:
        return failure("notify", error)
    count = sum(map(len, recipients.urls.values()))
    detail = f"Apprise takes {counted(count, 'URL')}; nothing was sent to them"
    untold = [key for key, each in project.cohorts.items() if each.enabled and not each.owner]
    if settings.urls or not untold:
        return Finding("notify", FindingStatus.OK, detail)
    return Finding(
        "notify",
        FindingStatus.NOTE,
        f"{detail}; nobody is told of {', '.join(untold)}",
        "give them an `owner`, or set `notify.urls`",
    )


def _check_address(
    project: Project, key: str, url: str | None, *, is_secret: bool
) -> Finding | None:
    name = key.partition(".")[0]
    try:
        address = read_address(str(project.path), key, url, is_secret=is_secret)
    except ConfigError as error:
        return failure(name, error)
    if address is None:
        return None
    detail = f"`{key}` names {address.endpoint.label}; nothing was sent to it"
    return Finding(name, FindingStatus.OK, detail)


def _check_target(key: str, path: Path) -> Finding:
    """Check the place of a file; a sync that can't write it only warns of that."""
    name = key.partition(".")[0]
    if problem := _unwritable(path):
        hint = "a sync would warn, and not write it"
        return Finding(name, FindingStatus.NOTE, f"`{key}`: {problem}", hint)
    return Finding(name, FindingStatus.OK, f"`{key}`: {path} can be written")


def _check_follow_ups(project: Project, cohorts: Collection[CohortSettings]) -> Iterator[Finding]:
    """Yield what would fail, or else how many there are, of commands and of markers."""
    clock, zone = SystemClock(), project.shared.sync.time_zone
    day = local_time(clock.stamp().utc_ns, zone).date()
    after = project.shared.sync.after
    commands = {
        f"{each.key}: `after`": _unstartable(each.after[0], each.file.absolute().parent)
        for each in cohorts
        if each.after
    }
    if after:
        folder = project.path.absolute().parent if project.path else Path.cwd()
        commands["`sync.after`"] = _unstartable(after[0], folder)
    markers = {
        f"{each.key}: `marker`": _unwritable_marker(each.marker, day)
        for each in cohorts
        if each.marker is not None
    }
    yield from _findings("after", commands, "program", "can be started")
    yield from _findings("marker", markers, "marker", "can be written")


def _findings(
    name: str, problems: Mapping[str, str | None], noun: str, well: str
) -> Iterator[Finding]:
    """Yield a failure for each problem, by what has it; or else that all is well."""
    for what, problem in problems.items():
        if problem is not None:
            yield failure(name, ConfigError(f"{what}: {problem}"))
    if problems and not any(problems.values()):
        yield Finding(name, FindingStatus.OK, f"{counted(len(problems), noun)} {well}")


def _unstartable(program: str, folder: Path) -> str | None:
    """Return why a program can't be started in `folder`, where `run_command` would start it."""
    path = inherited_variables(os.environ).get("PATH")
    if "/" not in program:
        is_found = shutil.which(program, path=path) is not None
        return None if is_found else f"no program {program} is on the PATH"
    file = folder / program
    if not file.is_file():
        return f"there is no file {file}"
    return None if os.access(file, os.X_OK) else f"{file} is not executable"


def _unwritable_marker(marker: str, day: date) -> str | None:
    """Return why a marker can't be written; its folder is made if there is none."""
    path = Path(expand_dates(marker, day))
    return _unwritable(next(each for each in (path, *path.parents) if each.parent.exists()))


def _unwritable(path: Path) -> str | None:
    """Return why a file can't be written in its folder, which has to be there."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} can't be written"
    return f"{path} is a folder" if path.is_dir() else None
