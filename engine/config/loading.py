"""config.toml, the environment and the flags, made into one frozen `Config`.

What to set is described beside what it sets (`PacingSettings` in `engine.pacing`, and so on) and in
config.toml, which equals the defaults. This module only finds, assembles and checks: either a
`Config` comes out, or a `ConfigError` whose message has a line for every problem.

A flag wins over the file, and the file over the environment: the environment fills in what the file
leaves out, so that a variable left over from another shell never redirects a run.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine.config.toml_settings import Tables
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.errors import ConfigError
from engine.ledger.state_folder import WorkspaceFolder
from engine.model.endpoint import Endpoint
from engine.model.workspace import NO_API_KEY, ApiKey, Workspace, is_workspace_id
from engine.pacing import PacingSettings
from engine.report.settings import AccountingSettings
from engine.snapshot.settings import MirrorSettings
from engine.storage.settings import PlanningSettings

if TYPE_CHECKING:  # Beside these stands what reads Arrow: large, and of no use to who only looks.
    from engine.payload.settings import PackingSettings
    from engine.planning.guards import GuardSettings

T = TypeVar("T")

CONFIG_VARIABLE = "COHORTSYNC_CONFIG"
ID_VARIABLE = "MOENGAGE_WORKSPACE_ID"
KEY_VARIABLE = "MOENGAGE_API_KEY"
_LONGEST_PARTNER = 200
_LONGEST_NAME = 255
_LONGEST_PATH = 3000
"""Bytes of a name, on the usual file systems, and of a path, to which more names are added."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a run is told, apart from what it sends."""

    path: Path | None
    """The file that it was read from; None where there was none."""
    workspace: Workspace
    pacing: PacingSettings
    packing: "PackingSettings"
    delivery: DeliverySettings
    retry: RetrySettings
    accounting: AccountingSettings
    state_dir: Path
    """Where the ledger lives, absolute; it need not exist yet."""
    notes: tuple[str, ...]
    """What is allowed but deserves a look; a sentence each."""
    mirror: MirrorSettings = field(default_factory=MirrorSettings)
    planning: PlanningSettings = field(default_factory=PlanningSettings)
    guards: "GuardSettings" = field(default_factory=lambda: _default_guards())  # noqa: PLW0108 - defined below

    @property
    def place(self) -> WorkspaceFolder:
        """Where the workspace's ledger stands, or is to stand."""
        return WorkspaceFolder.of(self.state_dir, self.workspace.endpoint, self.workspace.id)


def _default_guards() -> "GuardSettings":
    from engine.planning.guards import GuardSettings  # noqa: PLC0415 - large; see above

    return GuardSettings()


@dataclass(frozen=True, slots=True)
class _WorkspaceTable:
    id: str | None = None
    api_key_file: str | None = None
    data_center: str | None = None
    endpoint: str | None = None
    partner: str = "cohortsync"


@dataclass(frozen=True, slots=True)
class _StateTable:
    dir: str = "state"


def load(
    path: Path | None = None,
    *,
    endpoint: str | None = None,
    state: Path | None = None,
    need_credentials: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Find and read the configuration; `path`, `endpoint` and `state` are flags, None if not given.

    Without `need_credentials` the API key is not looked for and `workspace.api_key` is None. Raises
    `ConfigError` with one line a problem, each naming the file or variable, and the key.
    """
    from engine.payload.settings import PackingSettings  # noqa: PLC0415 - large; see above
    from engine.planning.guards import GuardSettings  # noqa: PLC0415 - large; see above

    assembly = _Assembly(_find(path, environ), environ)
    assembly.notes += [note] if (note := _passed_over(path, environ)) else []
    tables = assembly.tables
    table = tables.read("workspace", _WorkspaceTable)
    pacing = tables.read("limits", PacingSettings)
    packing = tables.read("limits", PackingSettings)
    delivery = tables.read("delivery", DeliverySettings)
    retry = tables.read("retry", RetrySettings)
    accounting = tables.read("accounting", AccountingSettings)
    mirror = tables.read("mirror", MirrorSettings)
    planning = assembly.planning(tables.read("plan", PlanningSettings))
    guards = assembly.guards(tables.read("guards", GuardSettings))
    state_dir = assembly.state_dir(tables.read("state", _StateTable), state)
    workspace_id = assembly.workspace_id(table)
    api_key = assembly.api_key(table) if need_credentials else None
    target = assembly.endpoint(table, endpoint)
    assembly.check_partner(table)
    problems = [*assembly.in_file(tables.unfit + tables.unknown), *assembly.problems]
    if problems or workspace_id is None or target is None or state_dir is None:
        raise ConfigError("\n".join(problems), hint=assembly.hint)
    return Config(
        path=assembly.path,
        workspace=Workspace(workspace_id, api_key, target, table.partner),
        pacing=pacing,
        packing=packing,
        delivery=delivery,
        retry=retry,
        accounting=accounting,
        mirror=mirror,
        planning=planning,
        guards=guards,
        state_dir=state_dir,
        notes=tuple(assembly.notes),
    )


def credentials_problem(
    path: Path | None = None, *, environ: Mapping[str, str] = os.environ
) -> str | None:
    """Say why there is no API key, for a command that does not need it; None if there is one."""
    assembly = _Assembly(_find(path, environ), environ)
    assembly.api_key(assembly.tables.read("workspace", _WorkspaceTable))
    return next(iter(assembly.problems), None)


def locate_state(
    path: Path | None = None,
    *,
    state: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Return the state folder alone, for commands that only read the ledger.

    The rest of the file is not judged, so that the books can be read whatever is wrong with it.
    """
    if state is not None:
        if (problem := _unfit_state(state.absolute())) is not None:
            raise ConfigError(problem)
        return state.absolute()
    assembly = _Assembly(_find(path, environ), environ)
    state_dir = assembly.state_dir(assembly.tables.read("state", _StateTable), None)
    problems = [*assembly.in_file(assembly.tables.unfit), *assembly.problems]
    if problems or state_dir is None:
        raise ConfigError("\n".join(problems))
    return state_dir


def _passed_over(path: Path | None, environ: Mapping[str, str]) -> str | None:
    """Say which configuration file wins over another that is there, where the flag does not."""
    named, default = environ.get(CONFIG_VARIABLE), Path("config.toml")
    if path is not None and named and path.absolute() != Path(named).absolute():
        return f"`--config` wins over `{CONFIG_VARIABLE}`"
    if path is None and named and default.exists() and not default.samefile(named):
        return f"`{CONFIG_VARIABLE}` wins over ./{default}"
    return None


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read; a file that was asked for by name has to be there."""
    named = environ.get(CONFIG_VARIABLE)
    if path is None and not named:
        default = Path("config.toml")
        return default if default.exists() else None
    found = path or Path(named or "")
    try:
        found.stat()
    except OSError as error:
        asked_by = "--config" if path else CONFIG_VARIABLE
        reason = (error.strerror or "cannot be read").lower()
        raise ConfigError(
            f"{found}, named by `{asked_by}`: {reason}",
            hint=f"it was looked for in {found.absolute().parent}",
        ) from None
    return found


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8, at byte {error.start}") from None
    except ValueError as error:  # TOMLDecodeError, or an integer of thousands of digits
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _unfit_state(folder: Path) -> str | None:
    """Say what is wrong with the path of a state folder; None if nothing is."""
    if "\0" in str(folder):
        return "the state folder's path holds a NUL"
    try:
        str(folder).encode()
    except UnicodeEncodeError:  # What compares and what reads Parquet take no other path.
        return f"the state folder's path is not valid UTF-8: {folder}"
    return None


_HINT_NO_FILE = (
    "run it in the folder of your config.toml, or name that by --config FILE; a copy of the one "
    "that is shipped is a start, and `cohortsync demo` needs none"
)
_HINT_IN_FILE = "the steps at the top of the shipped config.toml say where each value comes from"


class _Assembly:
    """One reading of file and environment, with the problems and notes met on the way."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self.path = path
        self.tables = Tables(_parse(path) if path else {})
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.hint: str | None = None
        self._folder = path.absolute().parent if path else Path.cwd()
        self._environ = environ

    def in_file(self, sentences: list[str]) -> list[str]:
        """Begin sentences about keys with the name of the file that they stand in."""
        return [f"{self.path}: {sentence}" for sentence in sentences]

    def workspace_id(self, table: _WorkspaceTable) -> str | None:
        in_environment = self._environ.get(ID_VARIABLE)
        if table.id is not None:
            found, place = table.id, f"{self.path}: `workspace.id`"
            if in_environment and in_environment != found:
                self.notes.append(f"`workspace.id` in {self.path} wins over `{ID_VARIABLE}`")
        elif in_environment:
            found, place = in_environment, f"environment: `{ID_VARIABLE}`"
        else:
            self._miss(f"no workspace: set `workspace.id` or `{ID_VARIABLE}`", "id")
            return None
        if not is_workspace_id(found):
            self.problems.append(f"{place} should be printable ASCII without blanks and colons")
            return None
        return found

    def api_key(self, table: _WorkspaceTable) -> ApiKey | None:
        in_environment = self._environ.get(KEY_VARIABLE)
        if table.api_key_file is not None:
            if in_environment:
                self.notes.append(
                    f"`workspace.api_key_file` in {self.path} wins over `{KEY_VARIABLE}`"
                )
            return self._key_in_file(table.api_key_file)
        if not in_environment:
            self._miss(NO_API_KEY, "api_key_file")
            return None
        try:
            return ApiKey.parse(in_environment, KEY_VARIABLE)
        except ValueError as error:
            self.problems.append(f"environment: `{KEY_VARIABLE}` {error}")
            return None

    def endpoint(self, table: _WorkspaceTable, flag: str | None) -> Endpoint | None:
        by_data_center = self._target(
            f"{self.path}: `workspace.data_center`", Endpoint.of_data_center, table.data_center
        )
        by_file = self._target(f"{self.path}: `workspace.endpoint`", Endpoint.parse, table.endpoint)
        by_flag = self._target("command line: `--endpoint`", Endpoint.parse, flag)
        if flag is None:
            self._miss(
                "no target: set `workspace.data_center` or `workspace.endpoint`, or give"
                " `--endpoint`; where to send is never guessed",
                "data_center",
                "endpoint",
            )
        given = {
            "`--endpoint`": by_flag,
            f"`workspace.endpoint` in {self.path}": by_file,
            f"`workspace.data_center` in {self.path}": by_data_center,
        }
        return self._winner(given)

    def _winner(self, given: Mapping[str, T | None]) -> T | None:
        """Return the first that is given, and note which others it wins over."""
        found = {name: value for name, value in given.items() if value is not None}
        if not found:
            return None
        (winner, value), *others = found.items()
        self.notes += [f"{winner} wins over {name}" for name, other in others if other != value]
        return value

    def check_partner(self, table: _WorkspaceTable) -> None:
        partner = table.partner
        if not partner.strip():
            self.problems.append(f"{self.path}: `workspace.partner` should not be empty")
        elif len(partner) > _LONGEST_PARTNER or not partner.isprintable():
            self.problems.append(
                f"{self.path}: `workspace.partner` should be at most {_LONGEST_PARTNER} characters "
                "without control characters"
            )

    def planning(self, table: PlanningSettings) -> PlanningSettings:
        if table.spill_dir is None:
            return table
        spill = self._beside_file("plan.spill_dir", table.spill_dir)
        return replace(table, spill_dir=str(spill) if spill else None)

    def guards(self, table: "GuardSettings") -> "GuardSettings":
        if (problem := table.problem) is not None:
            self.problems.append(f"{self.path}: {problem}")
        return table

    def state_dir(self, table: _StateTable, flag: Path | None) -> Path | None:
        by_file = self._beside_file("state.dir", table.dir)
        is_set = self.tables.holds("state", "dir")
        given = {
            "`--state`": flag.absolute() if flag else None,
            f"`state.dir` in {self.path}": by_file if is_set or flag is None else None,
        }
        found = self._winner(given)
        if found is not None and (problem := _unfit_state(found)) is not None:
            self.problems.append(problem)
        return found

    def _miss(self, sentence: str, *keys: str) -> None:
        """Tell that nothing was given, unless one of `keys` was and is a problem already."""
        if not any(self.tables.holds("workspace", key) for key in keys):
            self.problems.append(f"{self.path or 'no config.toml here'}: {sentence}")
            self.hint = _HINT_IN_FILE if self.path else _HINT_NO_FILE

    def _target(
        self, place: str, make: Callable[[str], Endpoint], text: str | None
    ) -> Endpoint | None:
        try:
            return None if text is None else make(text)
        except ValueError as error:
            self.problems.append(f"{place} {error}")
            return None

    def _beside_file(self, key: str, text: str) -> Path | None:
        """Return the path that `text` means in the file; relative ones start at its folder."""
        try:
            if text.strip() and "\0" not in text:
                path = self._folder / Path(text).expanduser()
                names = [len(os.fsencode(part)) for part in path.parts]
                if max(names) <= _LONGEST_NAME and sum(names) + len(names) <= _LONGEST_PATH:
                    return path
                self.problems.append(
                    f"{self.path}: `{key}` should be a path of at most {_LONGEST_PATH:,} bytes, "
                    f"and each name in it of at most {_LONGEST_NAME}"
                )
                return None
        except RuntimeError:
            pass  # `~somebody` without a home is no path either
        self.problems.append(f"{self.path}: `{key}` should be a path")
        return None

    def _key_in_file(self, text: str) -> ApiKey | None:
        place = f"{self.path}: `workspace.api_key_file`"
        path = self._beside_file("workspace.api_key_file", text)
        if path is None:
            return None
        try:
            key = ApiKey.read(path)
        except ValueError as error:
            self.problems.append(f"{place} {error}")
            return None
        if key.readable_by_others:
            self.notes.append(f"{place}: other users can read the key; make the file's mode 0600")
        return key
