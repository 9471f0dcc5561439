"""Finds and parses the configuration file, and the paths that are named in it."""

import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.errors import ConfigError

CONFIG_VARIABLE = "COHORTSYNC_CONFIG"
_LONGEST_NAME = 255
_LONGEST_PATH = 3000
"""Longest name on common file systems and longest path of a state folder, in bytes."""
_HINT_TOML = (
    'a value of text stands in quotes: `id = "W"`; `cohortsync init FILE` writes an example'
)


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
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError, an integer of thousands of digits, or thousands of nested lists.
        raise ConfigError(f"{path}: not TOML: {error}", hint=_HINT_TOML) from None


def path_from(folder: Path, text: str) -> Path:
    """Return the path that a key names; a relative path starts at the file's folder.

    Raises `ValueError` with a clause that never repeats `text`, which may be a secret by mistake.
    """
    problem = "should be a path"
    with suppress(RuntimeError):  # `~user` without a home folder is not a path
        if text.strip() and "\0" not in text:
            path = folder / Path(text).expanduser()
            names = [len(os.fsencode(part)) for part in path.parts]
            if max(names) <= _LONGEST_NAME and sum(names) + len(names) <= _LONGEST_PATH:
                return path
            problem += f" of at most {_LONGEST_PATH:,} bytes, "
            problem += f"and each name in it of at most {_LONGEST_NAME}"
    raise ValueError(problem)


def state_path_problem(folder: Path) -> str | None:
    """Return the problem with the path of a state folder; None if it is valid."""
    if "\0" in str(folder):
        return "the state folder's path holds a NUL"
    try:
        str(folder).encode()
    except UnicodeEncodeError:  # PyArrow accepts no other path.
        return f"the state folder's path is not valid UTF-8: {folder}"
    return None
