"""Reads config.toml, the environment and the flags into frozen settings.

Each settings class is declared next to the code that uses it (`PacingSettings` in `engine.pacing`).
config.toml describes every key, and its values equal the defaults. The result is a `Project` with
every workspace and cohort, or the `Config` of one workspace; or a `ConfigError` whose message has
one line per problem.

A flag takes precedence over the file, and the file over the environment. The environment only gives
values that the file lacks, so that a variable left over from another shell never redirects a run.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.config.absolute_paths import with_absolute_paths
from engine.config.cohort_settings import CohortSettings
from engine.config.cohorts import Common, check_guards, read_cohorts
from engine.config.config_file import ConfigFile, open_included, open_main
from engine.config.connections import check_engine, read_connections
from engine.config.credentials import Credentials
from engine.config.limits import with_hours
from engine.config.queries import read_queries
from engine.config.settings import RetentionSettings, SyncSettings
from engine.config.state_location import locate_in
from engine.config.toml_settings import dotted
from engine.config.workspaces import (
    DEFAULT_NAME,
    HINT_NO_FILE,
    WorkspaceReader,
    WorkspaceSettings,
    check_names,
    locate_workspaces,
    read_key,
)
from engine.coordination.coordination import SharedLimits
from engine.coordination.settings import SharedSettings
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.errors import ConfigError
from engine.ledger.state_folder import WorkspaceFolder
from engine.model.workspace import ApiKey, Workspace
from engine.notices.settings import MetricsSettings, NotifySettings, PingSettings
from engine.pacing.settings import PacingSettings
from engine.page.settings import ReportSettings
from engine.payload.settings import PackingSettings
from engine.planning.settings import GuardSettings
from engine.report.settings import AccountingSettings
from engine.snapshot.settings import MirrorSettings
from engine.source.sql.connection import Connection
from engine.storage.settings import PlanningSettings


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of a run in one workspace, except the data that it sends."""

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
    report: ReportSettings = field(default_factory=ReportSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
    pings: PingSettings = field(default_factory=PingSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    hosts: SharedSettings = field(default_factory=SharedSettings)
    shared: SharedLimits | None = None
    """The server that hosts share a ceiling by; None if they do not."""
    name: str = DEFAULT_NAME
    """The name of the workspace in the configuration."""
    credentials: Credentials[ApiKey] | None = None
    """Where the workspace's key may come from; None if no file or environment was read."""
    connections: Mapping[str, Connection] = field(default_factory=dict)
    """The databases that queries name, by name."""

    @property
    def place(self) -> WorkspaceFolder:
        """The folder of the workspace's ledger; it need not exist yet."""
        return WorkspaceFolder.of(self.state_dir, self.workspace.endpoint, self.workspace.id)

    def with_key(self, environ: Mapping[str, str] = os.environ) -> "Config":
        """Return the same settings with the API key, read now.

        Call it again after a 401: the key may have been replaced. Raises `ConfigError` with one
        line, which concerns only this workspace.
        """
        if self.credentials is None:
            return self
        return _with_key(self, read_key(self.credentials, environ), environ)

    def key_problem(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """Return why there is no API key, for a command without need of it; None if there is."""
        try:
            self.with_key(environ)
        except ConfigError as error:
            return error.message
        return None


@dataclass(frozen=True, slots=True)
class Project:
    """Every workspace and cohort of a configuration."""

    path: Path | None
    """The main file; None if there was none."""
    workspaces: Mapping[str, Config]
    """By name, at least one; a table `[workspace]` has the name `default`."""
    cohorts: Mapping[str, CohortSettings]
    """By key, in the order of the files; each names one of `workspaces`."""
    notes: tuple[str, ...]
    """Warnings, one sentence each; those of the credentials are in `workspaces`."""

    @property
    def shared(self) -> Config:
        """The configuration of any workspace, for the tables that hold for all of them."""
        return next(iter(self.workspaces.values()))


TABLES: Mapping[str, tuple[str, Any]] = {
    "pacing": ("limits", PacingSettings),
    "packing": ("limits", PackingSettings),
    "hosts": ("limits", SharedSettings),
    "delivery": ("delivery", DeliverySettings),
    "retry": ("retry", RetrySettings),
    "accounting": ("accounting", AccountingSettings),
    "mirror": ("mirror", MirrorSettings),
    "planning": ("plan", PlanningSettings),
    "guards": ("guards", GuardSettings),
    "report": ("report", ReportSettings),
    "metrics": ("metrics", MetricsSettings),
    "notify": ("notify", NotifySettings),
    "pings": ("pings", PingSettings),
    "sync": ("sync", SyncSettings),
    "retention": ("state", RetentionSettings),
}
"""The file's table and the settings class for each settings field of `Config`."""


def load_project(
    path: Path | None = None,
    *,
    endpoint: str | None = None,
    state: Path | None = None,
    need_credentials: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Project:
    """Find and read the configuration; the flags `path`, `endpoint` and `state` may be None.

    Without `need_credentials` no API key is read: `Config.with_key` reads it for one workspace, so
    that the lack of one does not stop the others. Raises `ConfigError` with one line per problem,
    which names the file or variable, and the key.
    """
    reading = _Reading(path, endpoint, state, environ)
    if need_credentials:
        reading.read_keys(reading.workspaces)
    return reading.project()


def load(  # noqa: PLR0913 - one parameter a flag
    path: Path | None = None,
    *,
    workspace: str | None = None,
    endpoint: str | None = None,
    state: Path | None = None,
    need_credentials: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Find and read the configuration of one workspace; the flags may be None.

    `workspace` selects one of several. Without `need_credentials` the API key is not read and
    `workspace.api_key` is None. Raises `ConfigError` as `load_project` does.
    """
    reading = _Reading(path, endpoint, state, environ)
    name = _select(reading.file, reading.workspaces, workspace)
    if need_credentials and name is not None:
        reading.read_keys([name])
    project = reading.project()
    config = project.workspaces[name or DEFAULT_NAME]
    return replace(config, notes=(*project.notes, *config.notes))


class _Reading:
    """Reads all that is configured, and collects the problems."""

    def __init__(
        self,
        path: Path | None,
        endpoint: str | None,
        state: Path | None,
        environ: Mapping[str, str],
    ) -> None:
        self.file = open_main(path, environ)
        self._environ = environ
        tables = self.file.tables
        at = locate_workspaces(self.file)
        check_names(self.file, at)
        self._keys: dict[str, ApiKey] = {}
        self._settings = {
            name: tables.read((table,), kind) for name, (table, kind) in TABLES.items()
        }
        base = replace(self._settings["pacing"], zone=self._settings["sync"].time_zone)
        pacing = self._settings["pacing"] = with_hours(tables, ("limits",), base)
        packing, hosts = self._settings["packing"], self._settings["hosts"]
        self.workspaces = {
            name: WorkspaceReader(self.file, name, keys, environ).read(
                endpoint, pacing, packing, hosts
            )
            for name, keys in at.items()
        }
        self._settings |= with_absolute_paths(self.file, self._settings)
        check_guards(self.file, ("guards",), self._settings["guards"])
        self._state_dir = locate_in(self.file, state)
        self._refuse_equal_workspaces()
        files = [self.file, *open_included(self.file, environ)]
        self._connections = read_connections(self.file, environ)
        check_engine(self.file, self._settings["planning"], self._connections)
        queries = read_queries(self.file, self._connections)
        common = Common(list(at), self._settings["guards"], self._connections, queries)
        self._cohorts = read_cohorts(files, common)
        self._refuse_unroutable_owners()
        for each in files:
            each.tables.refuse_unknown()

    def read_keys(self, names: Iterable[str]) -> None:
        """Read the API keys of some workspaces; the lack of one is a problem."""
        for name in names:
            try:
                self._keys[name] = read_key(self.workspaces[name].credentials, self._environ)
            except ConfigError as error:
                if error.hint is None:
                    self.file.problems.add(error.message)
                else:
                    hint = error.hint if self.file.path else HINT_NO_FILE
                    self.file.problems.lack(error.message, hint)

    def project(self) -> Project:
        """Return the whole; raises `ConfigError` with every problem found."""
        self.file.problems.raise_if_any()
        return Project(
            path=self.file.path,
            workspaces={
                name: config
                for name, each in self.workspaces.items()
                if (config := self._config(name, each)) is not None
            },
            cohorts=self._cohorts,
            notes=tuple(self.file.problems.notes),
        )

    def _config(self, name: str, found: WorkspaceSettings) -> Config | None:
        if found.workspace is None or self._state_dir is None:
            return None  # Never without a problem.
        config = Config(
            path=self.file.path,
            workspace=found.workspace,
            state_dir=self._state_dir,
            notes=(),
            name=name,
            credentials=found.credentials,
            connections=self._connections,
            shared=found.shared,
            **(
                self._settings
                | {"pacing": found.pacing, "packing": found.packing, "hosts": found.hosts}
            ),
        )
        return _with_key(config, self._keys.get(name), self._environ)

    def _refuse_unroutable_owners(self) -> None:
        owners = {key: each.owner for key, each in self._cohorts.items()}
        for key in self._settings["notify"].unroutable(owners):
            name = f"`{dotted(('cohorts', key, 'owner'))}`"
            self.file.problems.add(
                f"{self._cohorts[key].file}: {name} is not in [notify.owners]",
                "give each owner a URL in [notify.owners], or correct the name",
            )

    def _refuse_equal_workspaces(self) -> None:
        """Refuse two names for one workspace and partner, or with different ceilings."""
        partners: dict[tuple[str, str, str], str] = {}
        ceilings: dict[tuple[str, str], str] = {}
        for name, each in self.workspaces.items():
            if (found := each.workspace) is None:
                continue
            api = (found.endpoint.identity, found.id)
            if (other := partners.setdefault((*api, found.partner), name)) != name:
                clause = f"and `workspaces.{other}` have the same endpoint, id and partner"
                self.file.tables.refuse(("workspaces", name), clause)
            other = ceilings.setdefault(api, name)
            if (self.workspaces[other].pacing, self.workspaces[other].hosts) != (
                *(each.pacing, each.hosts),
            ):
                clause = (
                    f"and `workspaces.{other}` have the same endpoint and id, so that they share a "
                    "ceiling, but other limits"
                )
                self.file.tables.refuse(("workspaces", name), clause)


def _with_key(config: Config, key: ApiKey | None, environ: Mapping[str, str]) -> Config:
    """Return the settings with the key, and with the notes on it."""
    if key is None or config.credentials is None:
        return config
    notes = (*config.credentials.notes(environ), *config.credentials.warnings(key))
    return replace(
        config,
        workspace=replace(config.workspace, api_key=key),
        notes=tuple(dict.fromkeys((*config.notes, *notes))),
    )


def _select(file: ConfigFile, names: Collection[str], asked: str | None) -> str | None:
    """Return the name of the workspace to use; None after a problem."""
    known = ", ".join(names)
    if asked is not None and asked not in names:
        file.problems.add(f"{file.tables.label}: no workspace {asked!r}; there are: {known}")
        return None
    if asked is None and len(names) > 1:
        file.problems.add(
            f"{file.tables.label}: there are several workspaces: {known}",
            "name one by --workspace NAME",
        )
        return None
    return asked or next(iter(names), None)
