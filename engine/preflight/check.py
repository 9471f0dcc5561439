"""The preflight: checks that a run can start, without sending a uid.

Each step returns a `Finding`. A step that depends on a failed step is skipped; the first failed
step sets the exit status. Without `probing` nothing is sent, and the key is not tested.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from engine.config.loading import Config
from engine.config.lookup import Configuration
from engine.coordination.coordination import SharedLimits, key_prefix
from engine.coordination.inquiry import ceiling_now
from engine.delivery.events import Paused
from engine.errors import (
    CohortSyncError,
    ConfigError,
    LedgerError,
    LockHeldError,
    UsageError,
)
from engine.ledger.locks import holder_of
from engine.ledger.sqlite.access import file_size, ledger_in, refuse_emptied, unreadable
from engine.ledger.sqlite.migrations import UID_COLUMNS
from engine.ledger.sqlite.reader import LedgerReader
from engine.ledger.state_folder import refuse_network_file_system, try_writing
from engine.model.cohort import Action, Cohort
from engine.model.quantity import counted
from engine.pacing.pacer import Pacer
from engine.payload.envelope import Envelope
from engine.payload.limit import refuse_narrow_limit
from engine.preflight.connectivity import Connectivity, StepNotNeeded
from engine.preflight.export_check import check_exports
from engine.preflight.finding import STEPS, Finding, FindingStatus, failure
from engine.preflight.notice_check import check_notices
from engine.report.accounts import Ceiling
from engine.runs.engines import try_engine
from engine.storage.paths import UidLocation, copies_folder, fallback_folder, uid_locations

Probing = Callable[[Config], AbstractAsyncContextManager[Pacer]]
"""Holds the right to send in a workspace during a block, for one request without a uid; yields the
pacer. Raises `LockHeldError` if another process sends."""

CONNECT_SECONDS = 10.0
"""How long a step waits for the network, if `delivery.timeout_seconds` is not shorter."""


async def run_checks(
    configuration: Configuration, probing: Probing | None = None
) -> AsyncIterator[Finding]:
    """Yield a finding for each step, in order, as soon as it is known.

    Checks the workspace that is named, or each of them, then the exports of their cohorts, and what
    a sync tells, writes and starts. With `probing` the API keys are tested.
    """
    try:
        project = configuration.project
        if configuration.workspace not in {None, *project.workspaces}:
            configuration.config()  # It raises an error that names those there are.
    except ConfigError as error:
        yield failure(STEPS[0], error)
        for name in STEPS[1:]:
            yield Finding(name, FindingStatus.SKIPPED, "needs a configuration")
        return
    names = project.workspaces if configuration.workspace is None else [configuration.workspace]
    for name in names:
        config = project.workspaces[name]
        config = replace(config, notes=(*project.notes, *config.notes))
        label = name if len(project.workspaces) > 1 else None
        async for finding in _check_workspace(config, configuration, probing):
            yield replace(finding, workspace=label)
    async for finding in check_exports(project, names):
        yield finding
    async for finding in check_notices(project, names):
        yield finding


async def _check_workspace(
    config: Config, configuration: Configuration, probing: Probing | None
) -> AsyncIterator[Finding]:
    config, findings = check_settings(config, configuration)
    for finding in findings:
        yield finding
    at = config.place.folder
    ledger = await asyncio.to_thread(check_ledger, at, check_state(config.state_dir))
    yield ledger
    if ledger.verdict is FindingStatus.FAILED:
        yield Finding("uids", FindingStatus.SKIPPED, "needs a state folder")
    else:
        yield await _finding("uids", lambda: asyncio.to_thread(_describe_uid_locations, config))

    if config.shared is not None:
        limits = config.shared
        yield await _finding("shared", lambda: _describe_shared(limits, config))
    if config.planning.engine != "local":
        yield await _finding("engine", lambda: asyncio.to_thread(try_engine, config))
    seconds = min(CONNECT_SECONDS, config.delivery.timeout_seconds)
    connectivity = Connectivity(config.workspace, seconds)
    is_reachable = True
    for name, step in (
        ("dns", connectivity.resolve),
        ("tcp", connectivity.connect),
        ("tls", connectivity.negotiate_tls),
    ):
        if not is_reachable:
            yield Finding(name, FindingStatus.SKIPPED, "needs the step before it")
            continue
        finding = await _finding(name, step)
        is_reachable = finding.verdict is not FindingStatus.FAILED
        yield finding

    is_ready = is_reachable and ledger.verdict is not FindingStatus.FAILED
    if probing is not None and is_ready and config.workspace.api_key is not None:
        yield await _finding("key", lambda: _try_key(probing(config), connectivity))
        return
    reason = "not tested: only sending can; --live sends one request that is invalid on purpose"
    if probing is not None:
        reason = "needs credentials, a state folder and a reachable endpoint"
    yield Finding("key", FindingStatus.SKIPPED, reason)


def check_settings(config: Config, configuration: Configuration) -> tuple[Config, list[Finding]]:
    """Return the settings of a workspace with its API key, if it can be read, and the findings."""
    try:
        config = config.with_key(configuration.environ)
        key = config.workspace.require_key()
        found = Finding("credentials", FindingStatus.OK, f"an API key from {key.source}")
    except ConfigError as error:
        found = failure("credentials", error)
    return config, [_summary(config), found]


def check_state(folder: Path) -> Finding:
    """Try to write and lock a file in the ledger's folder, and remove it."""
    try:
        refuse_network_file_system(folder)
        place = next(each for each in (folder, *folder.parents) if each.exists())
        try_writing(place)
    except CohortSyncError as error:
        return failure("state", error)
    except OSError as error:
        detail = f"{folder} cannot be written and locked: {error.strerror}"
        hint = "set [state] dir in the configuration, or pass --state"
        return failure("state", LedgerError(detail, hint=hint))
    usable = "writable and lockable"
    detail = usable if place == folder else f"can be created, since {place} is {usable}"
    return Finding("state", FindingStatus.OK, f"{folder}: {detail}")


def check_ledger(folder: Path, state: Finding) -> Finding:
    """Check the whole ledger in `folder`, if there is one, and add the result to `state`."""
    if state.verdict is FindingStatus.FAILED:
        return state
    try:
        path = ledger_in(folder)
        if path is not None:
            refuse_emptied(path)
        if path is not None and file_size(path):  # An empty file that was never used is valid.
            with LedgerReader.open(path, is_whole=True) as ledger:
                if ledger.is_older:
                    older = f"{state.detail}; the ledger {path} was written by an older version"
                    state = replace(state, detail=older, hint="the next push migrates it")
        holder = holder_of(folder)
    except CohortSyncError as error:
        return failure("state", error)
    if holder:
        hint = "a push has to wait for it, by --wait, or be run later"
        return replace(state, detail=f"{state.detail}; in use by {holder}", hint=hint)
    return state


async def _try_key(probing: AbstractAsyncContextManager[Pacer], connectivity: Connectivity) -> str:
    """Test the key by a request within the ceiling; the request counts toward the ceiling."""
    try:
        async with probing as pacer:
            await pacer.approach(_refuse_pause)
            turn = await pacer.take_turn()
            try:
                detail = await connectivity.try_key()
            except BaseException:  # Some of these are answers, but none to go by.
                pacer.unanswered(turn)
                raise
            pacer.answered(turn)
            return detail
    except LockHeldError as error:
        error.hint = "run it again when that process has ended"
        raise


def _refuse_pause(until: datetime) -> None:
    raise StepNotNeeded(f"not tested: {Paused(until).sentence}")


async def _finding(name: str, step: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(name, FindingStatus.OK, await step())
    except StepNotNeeded as reason:
        return Finding(name, FindingStatus.SKIPPED, str(reason))
    except CohortSyncError as error:
        return failure(name, error)


def _summary(config: Config) -> Finding:
    workspace, pacing = config.workspace, config.pacing
    try:
        shortest = Envelope(workspace.partner, Cohort("i", "n"), Action.ADD)
        refuse_narrow_limit(shortest, config.packing.payload_bytes)
    except UsageError as error:
        return failure("configuration", error)
    detail = (
        f"{config.path or 'flags and environment'}: {workspace.endpoint.label}, "
        f"workspace {workspace.id}, partner {workspace.partner}, "
        f"{counted(pacing.requests, 'request')} in {pacing.per_seconds:g} s"
        f"{Ceiling.of(pacing).hours_clause}"
    )
    return Finding("configuration", FindingStatus.OK, detail, "; ".join(config.notes) or None)


async def _describe_shared(limits: SharedLimits, config: Config) -> str:
    """Return who shares the ceiling now; raises `ConfigError` and `UnreachableError`."""
    workspace = config.workspace
    prefix = key_prefix(workspace.endpoint.identity, workspace.id)
    found = await ceiling_now(limits, prefix, config.pacing)
    warning = "" if found.warning is None else f"; {found.warning}"
    return (
        f"{found.server} (version {found.version}): {found.used:,} of {found.requests:,} requests "
        f"in the last {config.pacing.per_seconds:g} s, by "
        f"{counted(len(found.processes), 'process')}{warning}"
    )


def _describe_uid_locations(config: Config) -> str:
    """Return lines for each kind of file in each folder: one for columns, one for copies.

    Raises `LedgerError` if a folder cannot be read.
    """
    workspace_folder = config.place.folder
    temporary = fallback_folder(config.planning.spill_dir)
    try:
        found = uid_locations(workspace_folder, [temporary])
        copies = copies_folder()
    except OSError as error:
        raise unreadable(error.filename, error.strerror) from error
    return "\n".join(
        [
            *_lines(found, workspace_folder),
            *_lines(found, temporary),
            f"the ledger's columns {', '.join(map('.'.join, sorted(UID_COLUMNS)))}",
            f"unnamed copies in {copies} while an export that passes only once is read",
        ]
    )


def _lines(found: Sequence[UidLocation], folder: Path) -> Iterator[str]:
    """Yield a line for each kind of content of the files below a folder."""
    inside = [location for location in found if location.path.is_relative_to(folder)]
    if not inside:
        return
    yield f"{folder}:"
    for content in dict.fromkeys(location.content for location in inside):
        sizes = [location.bytes for location in inside if location.content is content]
        yield f"  {content}: {counted(len(sizes), 'file')}, {counted(sum(sizes), 'byte')}"
