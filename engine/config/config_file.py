"""One file of the configuration, opened: the main one, or one that it includes."""

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.config.files import find_file, parse_file, path_from
from engine.config.problems import Problems
from engine.config.settings import TopLevel
from engine.config.toml_settings import Tables
from engine.config.variables import Keys, Substituted, substitute
from engine.errors import ConfigError

_HINT_VARIABLE = "correct it, or set the value in config.toml"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file of the configuration, or the lack of one."""

    path: Path | None
    tables: Tables
    problems: Problems

    @property
    def folder(self) -> Path:
        """The folder that its relative paths start at; without a file, the working folder."""
        return self.path.absolute().parent if self.path else Path.cwd()

    def path_in(self, keys: Keys, text: str | None) -> Path | None:
        """Return the absolute path in the value of a key; None after a problem."""
        make = partial(path_from, self.folder)
        return self.problems.made(self.tables.place(keys), make, text)


def open_main(path: Path | None, environ: Mapping[str, str]) -> ConfigFile:
    """Find and parse the main file; raises `ConfigError` if it can't be read."""
    found, note = find_file(path, environ)
    problems = Problems(notes=[note] if note else [])
    if found is None:
        problems.hint = _HINT_VARIABLE
        return ConfigFile(None, Tables("no config.toml here", Substituted(), problems), problems)
    return _opened(found, environ, problems)


def _opened(path: Path, environ: Mapping[str, str], problems: Problems) -> ConfigFile:
    try:
        content = substitute(parse_file(path), environ)
    except RecursionError:  # A key of thousands of parts.
        raise ConfigError(f"{path}: tables are nested too deeply", hint=problems.hint) from None
    return ConfigFile(path, Tables(str(path), content, problems), problems)


def open_included(main: ConfigFile, environ: Mapping[str, str]) -> Iterator[ConfigFile]:
    """Yield the files that the main file includes, in the order of the patterns and by name.

    A file that cannot be read, or that holds other tables than `cohorts`, is a problem.
    """
    patterns = main.tables.read((), TopLevel).include
    seen: dict[Path, str] = {}
    for pattern in patterns:
        for path in _matched(main, pattern):
            real = path.resolve()
            if main.path is not None and real == main.path.resolve():
                main.tables.refuse(("include",), f"includes {path} itself")
                continue
            if real in seen:
                main.tables.refuse(
                    ("include",), f"includes {path} twice, by {_by(seen[real], pattern)}"
                )
                continue
            seen[real] = pattern
            try:
                included = _opened(path, environ, main.problems)
            except ConfigError as error:
                main.problems.add(f"{error.message} (included by {main.path})", error.hint)
                continue
            _refuse_other_tables(included, main)
            yield included


def _by(first: str, second: str) -> str:
    return f"`{first}`" if first == second else f"`{first}` and `{second}`"


def _matched(main: ConfigFile, pattern: str) -> list[Path]:
    whole = main.path_in(("include",), pattern)
    if whole is None:
        return []
    if not glob.has_magic(pattern):
        return [whole]  # A file that is named and missing is a problem.
    # A wildcard in the name of the main file's folder is none.
    base = main.folder if whole.is_relative_to(main.folder) else Path(whole.anchor)
    place, below = main.tables.place(("include",)), str(whole.relative_to(base))
    found = main.problems.made(place, lambda text: list(base.glob(text)), below)
    names = sorted(path for path in found or () if not path.name.startswith("."))
    if found is not None and not names:
        main.problems.notes.append(
            f"{place}: {main.tables.shown(('include',), pattern)} matches no file"
        )
    return names


def _refuse_other_tables(included: ConfigFile, main: ConfigFile) -> None:
    for name in included.tables.names(()):
        if name != "cohorts":
            included.tables.skip(name)
            clause = f"belongs in {main.path}: an included file holds [cohorts] only"
            included.tables.refuse((name,), clause)
