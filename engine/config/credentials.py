"""Reads a secret: from a file, a command, systemd or the environment.

That is the API key of a workspace, or the password of a database, or of a server that hosts share.
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
from typing import Generic, NamedTuple, TypeVar, cast

from engine.delivery.secrets import Secrets
from engine.errors import ConfigError
from engine.model.secret import Secret

S = TypeVar("S", bound=Secret)

SYSTEMD_VARIABLE = "CREDENTIALS_DIRECTORY"
COMMAND_SECONDS = 30.0
HINT_LACK = "`cohortsync init FILE` writes a configuration that says where each value comes from"
_HINT_FILE = (
    "it names a file that holds the {} alone, with mode 0600; a relative path starts at the "
    "configuration's folder"
)
_MOST_BYTES = 4096
"""Bytes of a file that are read; a longer one holds no key or password."""
_STDERR_CHARACTERS = 200


class _Source(NamedTuple):
    """A place that has the secret."""

    name: str
    """The key of the file, the variable, or the file in systemd's folder."""
    is_key: bool
    """Whether it is set in the configuration file."""
    read: Callable[[], Secret]
    """Raises `ValueError` with a clause."""


@dataclass(frozen=True, slots=True)
class Credentials(Generic[S]):
    """Where a secret may come from; the secret itself is not kept."""

    kind: type[S]
    """The class of the secret."""
    key: str
    """The start of the keys in the file: `api_key` for `api_key_file` and `api_key_command`."""

    label: str
    """The configuration file, for messages."""
    table: str
    """The table with the keys in it."""
    variable: str
    """The environment variable of the secret."""
    systemd_name: str
    """The name of its file in systemd's folder of credentials."""
    folder: Path
    """The folder that the command runs in: that of the configuration file."""
    file: Path | None = None
    command: tuple[str, ...] = field(default=(), repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Arguments of the command that hold a variable's value: they are masked in what it writes."""

    def is_set(self, environ: Mapping[str, str]) -> bool:
        """Return whether there is a place that should have it."""
        return bool(self._sources(environ))

    def read(self, environ: Mapping[str, str] = os.environ) -> S | None:
        """Return the secret, read now: called again, it returns a replaced one.

        The first source that is set is used, even if it fails; None if none is. Raises
        `ConfigError` with one line that never repeats the secret.
        """
        for source in self._sources(environ):
            try:
                found = source.read()
            except ValueError as error:
                place = self.label if source.is_key else "environment"
                is_file = source.name.endswith(f"{self.key}_file")
                hint = _HINT_FILE.format(self.kind.noun) if is_file else None
                raise ConfigError(f"{place}: `{source.name}` {error}", hint=hint) from None
            return cast("S", found)
        return None

    def notes(self, environ: Mapping[str, str]) -> list[str]:
        """Return a sentence for each source that another one takes precedence over."""
        sources = self._sources(environ)
        if not sources:
            return []
        winner, *others = sources
        name = f"`{winner.name}` in {self.label}" if winner.is_key else f"`{winner.name}`"
        return [f"{name} wins over `{other.name}`" for other in others]

    def warnings(self, key: Secret) -> list[str]:
        """Return a sentence if other users can read the file that the key is from."""
        if not key.readable_by_others:
            return []
        place = f"{self.label}: `{self.table}.{key.source}`"
        return [f"{place}: other users can read the {key.noun}; make the file's mode 0600"]

    def _sources(self, environ: Mapping[str, str]) -> list[_Source]:
        """Return each source that is set, the one that takes precedence first."""
        found = []
        read: Callable[[], Secret]
        if self.file is not None:
            read = partial(_read_file, self.kind, self.file, f"{self.key}_file", has_mode=True)
            found.append(_Source(f"{self.table}.{self.key}_file", is_key=True, read=read))
        if self.command:
            name = f"{self.table}.{self.key}_command"
            found.append(_Source(name, is_key=True, read=self._ask_command))
        folder = environ.get(SYSTEMD_VARIABLE)
        if folder and (path := Path(folder, self.systemd_name)).exists():
            name = f"${SYSTEMD_VARIABLE}/{self.systemd_name}"
            # Its mode is not judged: systemd grants access by an ACL, which shows as group's.
            read = partial(_read_file, self.kind, path, name, has_mode=False)
            found.append(_Source(name, is_key=False, read=read))
        if key := environ.get(self.variable):
            read = partial(self.kind.parse, key, self.variable)
            found.append(_Source(self.variable, is_key=False, read=read))
        return found

    def _ask_command(self) -> Secret:
        """Return the secret that the command prints."""
        status, output, errors = _run(self.command, self.folder, self.kind.noun)
        if status == 0:
            return self.kind.parse(output, f"{self.key}_command")
        masked = Secrets.of(*(("", each) for each in (*self.secrets, *output.split())))
        last = (errors.strip().splitlines() or [""])[-1]
        said = f": {masked.mask(last)[:_STDERR_CHARACTERS]}" if last else ""
        raise ValueError(f"ended with {_status(status)}{said}")


def _run(command: tuple[str, ...], folder: Path, noun: str) -> tuple[int, str, str]:
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
            raise ValueError(f"printed no {noun} within {COMMAND_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output.decode("latin-1"), errors.decode(errors="replace")


def _status(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"signal {-code}"


def _read_file(kind: type[Secret], path: Path, source: str, *, has_mode: bool) -> Secret:
    """Return the secret from a file with no other content.

    Raises `ValueError` as `Secret.parse` does. The message does not repeat the path either, because
    the path may be the secret itself, given by mistake.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_BYTES)
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {error.strerror}") from None
    return kind.parse(
        content.decode("latin-1"),
        source,
        readable_by_others=has_mode and bool(mode & (stat.S_IRGRP | stat.S_IROTH)),
    )


def variable_suffix(name: str) -> str:
    """Return a name as it ends a variable: upper case, `_` for other characters."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())
