"""Finds the state folder: the flag takes precedence over the file."""

import os
from collections.abc import Mapping
from pathlib import Path

from engine.config.config_file import ConfigFile, open_main
from engine.config.files import state_path_problem
from engine.config.settings import StateTable
from engine.errors import ConfigError


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
    file = open_main(path, environ)
    state_dir = locate_in(file, None)
    file.problems.raise_if_any()
    if state_dir is None:
        raise ConfigError(f"{file.tables.label}: no state folder")
    return state_dir


def locate_in(file: ConfigFile, flag: Path | None) -> Path | None:
    """Return the absolute state folder from flag or file; None after a problem."""
    keys = ("state", "dir")
    by_file = file.path_in(keys, file.tables.read(("state",), StateTable).dir)
    is_set = file.tables.holds(keys)
    given = {
        "`--state`": flag.absolute() if flag else None,
        f"`state.dir` in {file.path}": by_file if is_set or flag is None else None,
    }
    found = file.problems.winner(given)
    if found is not None and (problem := state_path_problem(found)) is not None:
        file.problems.add(problem)
    return found
