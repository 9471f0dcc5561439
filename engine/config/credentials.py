"""Reads the API key of a workspace, or another credential, from where it is kept.

That is a file, a command, systemd or the environment.
"""

import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from engine.delivery.secrets import Secrets
from engine.errors import ConfigError
from engine.model.workspace import ApiKey, no_api_key

SYSTEMD_VARIABLE = "CREDENTIALS_DIRECTORY"
COMMAND_SECONDS = 30.0
HINT_LACK = "`cohortsync init FILE` writes a configuration that says where each value comes from"
_HINT_FILE = (
    "it names a file that holds the key alone, with mode 0600; a relative path starts at the "
    "configuration's folder"
)
_KEY_BYTES = 4096
"""Bytes of a key file that are read; a longer file is not a key."""
_STDERR_CHARACTERS = 200


class _Source(NamedTuple):
    """A place that has the key."""

    name: str
    """The key of the file, the variable, or the file in systemd's folder."""
    is_key: bool
    """Whether it is set in the configuration file."""
    read: Callable[[], ApiKey]
    """Raises `ValueError` with a clause."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the API key of one workspace may come from; the key itself is not kept."""

    label: str
    """The configuration file, for messages."""
    table: str
    """The workspace's table in it."""
    variable: str
    """The environment variable of the key."""
    systemd_name: str
    """The name of the key's file in systemd's folder of credentials."""
    folder: Path
    """The folder that the command runs in: that of the configuration file."""
    key_file: Path | None = None
    command: tuple[str, ...] = field(default=(), repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Arguments of the command that hold a variable's value: they are masked in what it writes."""
    key: str = "api_key"
    """How the keys of the table begin that name the file and the command."""

    def is_set(self, environ: Mapping[str, str]) -> bool:
        """Return whether there is a place that should have it."""
        return bool(self._sources(environ))

    def read(self, environ: Mapping[str, str] = os.environ) -> ApiKey:
        """Return the key, read now: called again after a 401, it returns a replaced key.

        The first source that is set is used, even if it fails. Raises `ConfigError` with one line
        that never repeats the key.
        """
        for source in self._sources(environ):
            try:
                return source.read()
            except ValueError as error:
                place = self.label if source.is_key else "environment"
                hint = _HINT_FILE if source.name.endswith(f"{self.key}_file") else None
                raise ConfigError(f"{place}: `{source.name}` {error}", hint=hint) from None
        lack = no_api_key(self.table, self.variable)
        raise ConfigError(f"{self.label}: {lack}", hint=HINT_LACK)

    def notes(self, environ: Mapping[str, str]) -> list[str]:
        """Return a sentence for each source that another one takes precedence over."""
        sources = self._sources(environ)
        if not sources:
            return []
        winner, *others = sources
        name = f"`{winner.name}` in {self.label}" if winner.is_key else f"`{winner.name}`"
        return [f"{name} wins over `{other.name}`" for other in others]

    def warnings(self, key: ApiKey) -> list[str]:
        """Return a sentence if other users can read the file that the key is from."""
        if not key.readable_by_others:
            return []
        place = f"{self.label}: `{self.table}.{key.source}`"
        return [f"{place}: other users can read the key; make the file's mode 0600"]

    def _sources(self, environ: Mapping[str, str]) -> list[_Source]:
        """Return each source that is set, the one that takes precedence first."""
        found = []
        if self.key_file is not None:
            read = partial(_read_key, self.key_file, f"{self.key}_file", has_mode=True)
            found.append(_Source(f"{self.table}.{self.key}_file", is_key=True, read=read))
        if self.command:
            name = f"{self.table}.{self.key}_command"
            found.append(_Source(name, is_key=True, read=self._ask_command))
        folder = environ.get(SYSTEMD_VARIABLE)
        if folder and (path := Path(folder, self.systemd_name)).exists():
            name = f"${SYSTEMD_VARIABLE}/{self.systemd_name}"
            # Its mode is not judged: systemd grants access by an ACL, which shows as group's.
            read = partial(_read_key, path, name, has_mode=False)
            found.append(_Source(name, is_key=False, read=read))
        if key := environ.get(self.variable):
            read = partial(ApiKey.parse, key, self.variable)
            found.append(_Source(self.variable, is_key=False, read=read))
        return found

    def _ask_command(self) -> ApiKey:
        """Return the key that the command prints."""
        status, output, errors = _run(self.command, self.folder)
        if status == 0:
            return ApiKey.parse(output, f"{self.key}_command")
        masked = Secrets.of(*(("", each) for each in (*self.secrets, *output.split())))
        last = (errors.strip().splitlines() or [""])[-1]
        said = f": {masked.mask(last)[:_STDERR_CHARACTERS]}" if last else ""
        raise ValueError(f"ended with {_status(status)}{said}")


def _run(command: tuple[str, ...], folder: Path) -> tuple[int, str, str]:
    """Run a command without a shell; return its exit status, stdout and stderr.

    Raises `ValueError` with a clause if it can't be started, or takes too long.
    """
    try:
        # In a session of its own, so that all that it starts can be ended with it.
        process = subprocess.Popen(  # noqa: S603 - the configured program, without a shell
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ValueError(f"can't be started: {error.strerror}") from None
    with process:
        try:
            output, errors = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise ValueError(f"printed no key within {COMMAND_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output.decode("latin-1"), errors.decode(errors="replace")


def _status(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"signal {-code}"


def _read_key(path: Path, source: str, *, has_mode: bool) -> ApiKey:
    """Return the key from a file with no other content.

    Raises `ValueError` as `ApiKey.parse` does. The message does not repeat the path either, because
    the path may be the key itself, given by mistake.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_KEY_BYTES)
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {error.strerror}") from None
    return ApiKey.parse(
        content.decode("latin-1"),
        source,
        readable_by_others=has_mode and bool(mode & (stat.S_IRGRP | stat.S_IROTH)),
    )


def variable_suffix(name: str) -> str:
    """Return a workspace's name as it ends a variable: upper case, `_` for other characters."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())
