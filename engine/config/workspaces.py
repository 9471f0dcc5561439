"""Reads the tables of workspaces: `workspace`, or each of `workspaces`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.config.config_file import ConfigFile
from engine.config.credentials import HINT_LACK, Credentials, variable_suffix
from engine.config.hosts import read_shared
from engine.config.limits import with_hours
from engine.config.settings import WorkspaceTable
from engine.config.toml_settings import dotted
from engine.config.variables import Keys
from engine.coordination.coordination import SharedLimits
from engine.coordination.settings import SharedSettings
from engine.errors import ConfigError
from engine.model.endpoint import Endpoint
from engine.model.workspace import KEY_VARIABLE, ApiKey, Workspace, is_workspace_id, no_api_key
from engine.pacing.settings import PacingSettings
from engine.payload.settings import PackingSettings

DEFAULT_NAME = "default"
"""The name of the only workspace, which `[workspace]` sets."""
ID_VARIABLE = "MOENGAGE_WORKSPACE_ID"
_SYSTEMD_NAME = "moengage_api_key"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_PARTNER = 200
_HINT_ENDPOINT = (
    "an endpoint looks like https://api-01.moengage.com, or http://127.0.0.1:8765 on this machine"
)
HINT_NO_FILE = (
    "run it in the folder of your config.toml, or name that by --config FILE; `cohortsync init` "
    "writes one, and `cohortsync demo` needs none"
)


@dataclass(frozen=True, slots=True)
class WorkspaceSettings:
    """What the table of one workspace sets."""

    workspace: Workspace | None
    """Without its key; None after a problem."""
    credentials: Credentials[ApiKey]
    pacing: PacingSettings
    packing: PackingSettings
    hosts: SharedSettings
    shared: SharedLimits | None


def locate_workspaces(file: ConfigFile) -> dict[str, Keys]:
    """Return the name and the table of each workspace; one without a table if there is none."""
    if not file.tables.holds(("workspaces",)):
        return {DEFAULT_NAME: ("workspace",)}
    names = file.tables.names(("workspaces",))
    if file.tables.holds(("workspace",)):
        clause = (
            "and `workspaces` exclude each other: give each workspace a table [workspaces.NAME]"
        )
        file.tables.refuse(("workspace",), clause)
        file.tables.skip("workspace")
    return {name: ("workspaces", name) for name in names}


def check_names(file: ConfigFile, found: Mapping[str, Keys]) -> None:
    """Add problems with the names of workspaces."""
    if not found:
        file.tables.refuse(("workspaces",), "holds no workspace: each is a table [workspaces.NAME]")
    by_suffix: dict[str, str] = {}
    for name in found:
        if not _NAME.fullmatch(name):
            clause = "should be named by at most 64 letters, digits, `-` and `_`"
            file.tables.refuse(found[name], clause)
        other = by_suffix.setdefault(variable_suffix(name), name)
        if other != name:
            variable = f"{KEY_VARIABLE}_{variable_suffix(name)}"
            clause = f"and `workspaces.{other}` would share the variable {variable}: rename one"
            file.tables.refuse(found[name], clause)


def read_key(credentials: Credentials[ApiKey], environ: Mapping[str, str]) -> ApiKey:
    """Return the API key of a workspace; raises `ConfigError` if there is none."""
    key = credentials.read(environ)
    if key is None:
        lack = no_api_key(credentials.table, credentials.variable)
        raise ConfigError(f"{credentials.label}: {lack}", hint=HINT_LACK)
    return key


@dataclass(frozen=True, slots=True)
class WorkspaceReader:
    """Reads the table of one workspace."""

    file: ConfigFile
    name: str
    at: Keys
    environ: Mapping[str, str]

    def read(
        self,
        flag: str | None,
        pacing: PacingSettings,
        packing: PackingSettings,
        hosts: SharedSettings,
    ) -> WorkspaceSettings:
        """Return its settings; `flag` is `--endpoint`, the others are those of `[limits]`."""
        table = self.table()
        limits = (*self.at, "limits")
        pacing = self.file.tables.read(limits, PacingSettings, pacing)
        pacing = with_hours(self.file.tables, limits, pacing)
        packing = self.file.tables.read(limits, PackingSettings, packing)
        has_own = self.file.tables.holds((*limits, "shared"))
        hosts = self.file.tables.read(limits, SharedSettings, hosts)
        at = limits if has_own else ("limits",)
        shared = read_shared(self.file, at, hosts, self.environ)
        found = self._id(table)
        endpoint = self._endpoint(table, flag)
        self._check_partner(table)
        workspace = None
        if found is not None and endpoint is not None:
            workspace = Workspace(found, None, endpoint, table.partner)
        return WorkspaceSettings(workspace, self.credentials(table), pacing, packing, hosts, shared)

    def table(self) -> WorkspaceTable:
        """Return the table as it stands in the file."""
        return self.file.tables.read(self.at, WorkspaceTable)

    def credentials(self, table: WorkspaceTable) -> Credentials[ApiKey]:
        """Return where the key of the workspace may come from."""
        command = table.api_key_command or ()
        has_variables = self.file.tables.variables((*self.at, "api_key_command"))
        return Credentials(
            kind=ApiKey,
            key="api_key",
            label=self.file.tables.label,
            table=".".join(self.at),
            variable=self._variable(KEY_VARIABLE),
            systemd_name=f"{_SYSTEMD_NAME}_{self.name}" if self._is_named else _SYSTEMD_NAME,
            folder=self.file.folder,
            file=self.file.path_in((*self.at, "api_key_file"), table.api_key_file),
            command=command,
            secrets=command[1:] if has_variables else (),
        )

    @property
    def _is_named(self) -> bool:
        return len(self.at) > 1

    def _variable(self, name: str) -> str:
        return f"{name}_{variable_suffix(self.name)}" if self._is_named else name

    def _key(self, key: str) -> str:
        return dotted((*self.at, key))

    def _id(self, table: WorkspaceTable) -> str | None:
        keys, variable = (*self.at, "id"), self._variable(ID_VARIABLE)
        in_environment = self.environ.get(variable)
        if table.id is not None:
            found, place = table.id, self.file.tables.place(keys)
            if in_environment and in_environment != found:
                note = f"`{self._key('id')}` in {self.file.path} wins over `{variable}`"
                self.file.problems.notes.append(note)
        elif in_environment:
            found, place = in_environment, f"environment: `{variable}`"
        else:
            self._miss(f"no workspace: set `{self._key('id')}` or `{variable}`", "id")
            return None
        if not is_workspace_id(found):
            self.file.problems.add(f"{place} should be printable ASCII without blanks and colons")
            return None
        return found

    def _endpoint(self, table: WorkspaceTable, flag: str | None) -> Endpoint | None:
        made, place = self.file.problems.made, self.file.tables.place
        by_file = made(
            place((*self.at, "endpoint")), Endpoint.parse, table.endpoint, _HINT_ENDPOINT
        )
        by_flag = made("command line: `--endpoint`", Endpoint.parse, flag, _HINT_ENDPOINT)
        if flag is None:
            self._miss(
                f"no target: set `{self._key('data_center')}` or `{self._key('endpoint')}`, or give"
                " `--endpoint`; where to send is never guessed",
                *("data_center", "endpoint"),
            )
        center = table.data_center
        given = {
            "`--endpoint`": by_flag,
            f"`{self._key('endpoint')}` in {self.file.path}": by_file,
            f"`{self._key('data_center')}` in {self.file.path}": (
                None if center is None else Endpoint.of_data_center(center)
            ),
        }
        return self.file.problems.winner(given)

    def _check_partner(self, table: WorkspaceTable) -> None:
        keys, partner = (*self.at, "partner"), table.partner
        if not partner.strip():
            self.file.tables.refuse(keys, "should not be empty")
        elif len(partner) > _LONGEST_PARTNER or not partner.isprintable():
            self.file.tables.refuse(
                keys, f"should be at most {_LONGEST_PARTNER} characters without control characters"
            )

    def _miss(self, sentence: str, *keys: str) -> None:
        """Add a problem, unless one of `keys` is set: then its value already is a problem."""
        if not any(self.file.tables.holds((*self.at, key)) for key in keys):
            hint = HINT_LACK if self.file.path else HINT_NO_FILE
            self.file.problems.lack(f"{self.file.tables.label}: {sentence}", hint)
