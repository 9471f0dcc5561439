"""Combines the configuration file, the environment and the flags, and collects every problem."""

import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from engine.config.toml_settings import Tables
from engine.errors import ConfigError
from engine.model.endpoint import Endpoint
from engine.model.workspace import NO_API_KEY, ApiKey, is_workspace_id
from engine.page.settings import ReportSettings
from engine.planning.settings import GuardSettings
from engine.storage.settings import PlanningSettings

Given = TypeVar("Given")
T = TypeVar("T")

CONFIG_VARIABLE = "COHORTSYNC_CONFIG"
ID_VARIABLE = "MOENGAGE_WORKSPACE_ID"
KEY_VARIABLE = "MOENGAGE_API_KEY"
_LONGEST_PARTNER = 200
_LONGEST_NAME = 255
_LONGEST_PATH = 3000
"""Longest name on common file systems and longest path of a state folder, in bytes."""
_KEY_FILE_BYTES = 4096
"""Bytes of a key file that are read; a longer file is not a key."""


@dataclass(frozen=True, slots=True)
class WorkspaceTable:
    """The file's table `workspace`."""

    id: str | None = None
    api_key_file: str | None = None
    data_center: str | None = None
    endpoint: str | None = None
    partner: str = "cohortsync"


@dataclass(frozen=True, slots=True)
class StateTable:
    """The file's table `state`."""

    dir: str = "state"


def find_file(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, str | None]:
    """Return the file to read or None, and a note if it takes precedence over another file.

    Raises `ConfigError` if a named file is missing.
    """
    named, default = environ.get(CONFIG_VARIABLE), Path("config.toml")
    if path is None and not named:
        return (default if default.exists() else None), None
    found = path or Path(named or "")
    try:
        found.stat()
    except OSError as error:
        asked_by = "--config" if path else CONFIG_VARIABLE
        reason = (error.strerror or "cannot be read").lower()
        hint = f"it was looked for in {found.absolute().parent}"
        raise ConfigError(f"{found}, named by `{asked_by}`: {reason}", hint=hint) from None
    if path is not None and named and path.absolute() != Path(named).absolute():
        return found, f"`--config` wins over `{CONFIG_VARIABLE}`"
    if path is None and default.exists() and not default.samefile(found):
        return found, f"`{CONFIG_VARIABLE}` wins over ./{default}"
    return found, None


def parse_file(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; raises `ConfigError`."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", hint="check that you may read it"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8, at byte {error.start}", hint="save the file as UTF-8"
        ) from None
    except ValueError as error:  # TOMLDecodeError, or an integer of thousands of digits
        raise ConfigError(f"{path}: not TOML: {error}", hint=_HINT_TOML) from None


def state_path_problem(folder: Path) -> str | None:
    """Return the problem with the path of a state folder; None if it is valid."""
    if "\0" in str(folder):
        return "the state folder's path holds a NUL"
    try:
        str(folder).encode()
    except UnicodeEncodeError:  # DuckDB and PyArrow accept no other path.
        return f"the state folder's path is not valid UTF-8: {folder}"
    return None


_HINT_NO_FILE = (
    "run it in the folder of your config.toml, or name that by --config FILE; a copy of the one "
    "that is shipped is a start, and `cohortsync demo` needs none"
)
_HINT_KEYS = "the shipped config.toml describes each key and its values"
_HINT_VARIABLE = "correct it, or set the value in config.toml"
_HINT_TOML = 'a value of text stands in quotes: `id = "W"`; the shipped config.toml is an example'
_HINT_ENDPOINT = (
    "an endpoint looks like https://api-01.moengage.com, or http://127.0.0.1:8765 on this machine"
)
_HINT_IN_FILE = "the steps at the top of the shipped config.toml say where each value comes from"


class Assembly:
    """Reads file, environment and flags once, and collects problems and notes."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self.path, note = find_file(path, environ)
        self.tables = Tables(parse_file(self.path) if self.path else {})
        self.problems: list[str] = []
        self.notes = [note] if note else []
        self.hint = _HINT_KEYS if self.path else _HINT_VARIABLE
        """The hint for the problems."""
        self._folder = self.path.absolute().parent if self.path else Path.cwd()
        self._environ = environ

    def all_problems(self, of_keys: list[str]) -> list[str]:
        """Return the problems of keys, prefixed with the file's name, and all other problems."""
        return [*(f"{self.path}: {problem}" for problem in of_keys), *self.problems]

    def workspace_id(self, table: WorkspaceTable) -> str | None:
        """Return the workspace id from file or environment; None after a problem."""
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

    def api_key(self, table: WorkspaceTable) -> ApiKey | None:
        """Return the key from the key file or the environment; None after a problem."""
        in_environment = self._environ.get(KEY_VARIABLE)
        if table.api_key_file is not None:
            if in_environment:
                self.notes.append(
                    f"`workspace.api_key_file` in {self.path} wins over `{KEY_VARIABLE}`"
                )
            return self._key_of_file(table.api_key_file)
        if not in_environment:
            self._miss(NO_API_KEY, "api_key_file")
            return None
        parse = partial(ApiKey.parse, source=KEY_VARIABLE)
        return self._made(f"environment: `{KEY_VARIABLE}`", parse, in_environment)

    def endpoint(self, table: WorkspaceTable, flag: str | None) -> Endpoint | None:
        """Return the endpoint from flag or file; None after a problem."""
        known = len(self.problems)
        by_data_center = self._made(
            f"{self.path}: `workspace.data_center`", Endpoint.of_data_center, table.data_center
        )
        by_file = self._made(f"{self.path}: `workspace.endpoint`", Endpoint.parse, table.endpoint)
        by_flag = self._made("command line: `--endpoint`", Endpoint.parse, flag)
        if len(self.problems) > known:
            self.hint = _HINT_ENDPOINT
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
        """Return the first given value, and note the given values that it overrides."""
        found = {name: value for name, value in given.items() if value is not None}
        if not found:
            return None
        (winner, value), *others = found.items()
        self.notes += [f"{winner} wins over {name}" for name, other in others if other != value]
        return value

    def check_partner(self, table: WorkspaceTable) -> None:
        """Add a problem if the partner's name is invalid."""
        partner = table.partner
        if not partner.strip():
            self.problems.append(f"{self.path}: `workspace.partner` should not be empty")
        elif len(partner) > _LONGEST_PARTNER or not partner.isprintable():
            self.problems.append(
                f"{self.path}: `workspace.partner` should be at most {_LONGEST_PARTNER} characters "
                "without control characters"
            )

    def planning(self, table: PlanningSettings) -> PlanningSettings:
        """Return the settings with an absolute `spill_dir`."""
        if table.spill_dir is None:
            return table
        spill = self._path_in_file("plan.spill_dir", table.spill_dir)
        return replace(table, spill_dir=str(spill) if spill else None)

    def report(self, table: ReportSettings) -> ReportSettings:
        """Return the settings with an absolute path of the page."""
        if table.html is None:
            return table
        page = self._path_in_file("report.html", table.html)
        return replace(table, html=str(page) if page else None)

    def check_guards(self, table: GuardSettings) -> None:
        """Add a problem if the settings contradict each other."""
        if (problem := table.problem) is not None:
            self.problems.append(f"{self.path}: {problem}")

    def state_dir(self, table: StateTable, flag: Path | None) -> Path | None:
        """Return the absolute state folder from flag or file; None after a problem."""
        by_file = self._path_in_file("state.dir", table.dir)
        is_set = self.tables.holds("state", "dir")
        given = {
            "`--state`": flag.absolute() if flag else None,
            f"`state.dir` in {self.path}": by_file if is_set or flag is None else None,
        }
        found = self._winner(given)
        if found is not None and (problem := state_path_problem(found)) is not None:
            self.problems.append(problem)
        return found

    def _miss(self, sentence: str, *keys: str) -> None:
        """Add a problem, unless the value of one of `keys` already is a problem."""
        if not any(self.tables.holds("workspace", key) for key in keys):
            self.problems.append(f"{self.path or 'no config.toml here'}: {sentence}")
            self.hint = _HINT_IN_FILE if self.path else _HINT_NO_FILE

    def _made(self, place: str, make: Callable[[Given], T], given: Given | None) -> T | None:
        """Return the result of `make` for a given value; its `ValueError` becomes a problem."""
        try:
            return None if given is None else make(given)
        except ValueError as error:
            self.problems.append(f"{place} {error}")
            return None

    def _path_in_file(self, key: str, text: str) -> Path | None:
        """Return the path in a key of the file; a relative path starts at the file's folder."""
        problem = f"{self.path}: `{key}` should be a path"
        with suppress(RuntimeError):  # `~user` without a home folder is not a path
            if text.strip() and "\0" not in text:
                path = self._folder / Path(text).expanduser()
                names = [len(os.fsencode(part)) for part in path.parts]
                if max(names) <= _LONGEST_NAME and sum(names) + len(names) <= _LONGEST_PATH:
                    return path
                problem += f" of at most {_LONGEST_PATH:,} bytes, "
                problem += f"and each name in it of at most {_LONGEST_NAME}"
        self.problems.append(problem)
        return None

    def _key_of_file(self, text: str) -> ApiKey | None:
        place = f"{self.path}: `workspace.api_key_file`"
        key = self._made(place, _read_key, self._path_in_file("workspace.api_key_file", text))
        if key is not None and key.readable_by_others:
            self.notes.append(f"{place}: other users can read the key; make the file's mode 0600")
        return key


def _read_key(path: Path) -> ApiKey:
    """Return the key from a file with no other content.

    Raises `ValueError` as `ApiKey.parse` does. The message does not repeat the path either, because
    the path may be the key itself, given by mistake.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_KEY_FILE_BYTES)
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {error.strerror}") from None
    return ApiKey.parse(
        content.decode("latin-1"),
        "api_key_file",
        readable_by_others=bool(mode & (stat.S_IRGRP | stat.S_IROTH)),
    )
