"""Reads config.toml, the environment and the flags into one frozen `Config`.

Each settings class is declared next to the code that uses it (`PacingSettings` in `engine.pacing`).
config.toml describes every key, and its values equal the defaults. The result is a `Config`, or a
`ConfigError` whose message has one line per problem.

A flag takes precedence over the file, and the file over the environment. The environment only gives
values that the file lacks, so that a variable left over from another shell never redirects a run.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config.assembly import (
    Assembly,
    StateTable,
    WorkspaceTable,
    state_path_problem,
)
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.errors import ConfigError
from engine.ledger.state_folder import WorkspaceFolder
from engine.model.workspace import Workspace
from engine.pacing.settings import PacingSettings
from engine.payload.settings import PackingSettings
from engine.planning.settings import GuardSettings
from engine.report.settings import AccountingSettings
from engine.snapshot.settings import MirrorSettings
from engine.storage.settings import PlanningSettings, RetentionSettings


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of a run, except the data that it sends."""

    path: Path | None
    """The file that the settings were read from; None if there was none."""
    workspace: Workspace
    pacing: PacingSettings
    packing: PackingSettings
    delivery: DeliverySettings
    retry: RetrySettings
    accounting: AccountingSettings
    state_dir: Path
    """The absolute path of the folder of the ledgers; it need not exist yet."""
    notes: tuple[str, ...]
    """Warnings, one sentence each."""
    mirror: MirrorSettings = field(default_factory=MirrorSettings)
    planning: PlanningSettings = field(default_factory=PlanningSettings)
    guards: GuardSettings = field(default_factory=GuardSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)

    @property
    def place(self) -> WorkspaceFolder:
        """The folder of the workspace's ledger; it need not exist yet."""
        return WorkspaceFolder.of(self.state_dir, self.workspace.endpoint, self.workspace.id)


_TABLES: Mapping[str, tuple[str, Any]] = {
    "pacing": ("limits", PacingSettings),
    "packing": ("limits", PackingSettings),
    "delivery": ("delivery", DeliverySettings),
    "retry": ("retry", RetrySettings),
    "accounting": ("accounting", AccountingSettings),
    "mirror": ("mirror", MirrorSettings),
    "planning": ("plan", PlanningSettings),
    "guards": ("guards", GuardSettings),
    "retention": ("state", RetentionSettings),
}
"""The file's table and the settings class for each settings field of `Config`."""


def load(
    path: Path | None = None,
    *,
    endpoint: str | None = None,
    state: Path | None = None,
    need_credentials: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Find and read the configuration; the flags `path`, `endpoint` and `state` may be None.

    Without `need_credentials` the API key is not read and `workspace.api_key` is None. Raises
    `ConfigError` with one line per problem, which names the file or variable, and the key.
    """
    assembly = Assembly(path, environ)
    tables = assembly.tables
    table = tables.read("workspace", WorkspaceTable)
    settings = {name: tables.read(*where) for name, where in _TABLES.items()}
    settings["planning"] = assembly.planning(settings["planning"])
    assembly.check_guards(settings["guards"])
    state_dir = assembly.state_dir(tables.read("state", StateTable), state)
    workspace_id = assembly.workspace_id(table)
    api_key = assembly.api_key(table) if need_credentials else None
    target = assembly.endpoint(table, endpoint)
    assembly.check_partner(table)
    problems = assembly.all_problems(tables.invalid + tables.unknown)
    if problems or workspace_id is None or target is None or state_dir is None:
        raise ConfigError("\n".join(problems), hint=assembly.hint)
    return Config(
        path=assembly.path,
        workspace=Workspace(workspace_id, api_key, target, table.partner),
        state_dir=state_dir,
        notes=tuple(assembly.notes),
        **settings,
    )


def credentials_problem(
    path: Path | None = None, *, environ: Mapping[str, str] = os.environ
) -> str | None:
    """Return why there is no API key, for a command without need of it; None if there is one."""
    assembly = Assembly(path, environ)
    assembly.api_key(assembly.tables.read("workspace", WorkspaceTable))
    return next(iter(assembly.problems), None)


def locate_state(
    path: Path | None = None,
    *,
    state: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Return only the state folder, for commands that only read the ledger.

    The rest of the file is not checked, so that its other problems do not prevent reading the
    ledger. Raises `ConfigError` as `load` does.
    """
    if state is not None:
        if (problem := state_path_problem(state.absolute())) is not None:
            raise ConfigError(problem, hint="name another folder by --state")
        return state.absolute()
    assembly = Assembly(path, environ)
    state_dir = assembly.state_dir(assembly.tables.read("state", StateTable), None)
    problems = assembly.all_problems(assembly.tables.invalid)
    if problems or state_dir is None:
        raise ConfigError("\n".join(problems), hint=assembly.hint)
    return state_dir
