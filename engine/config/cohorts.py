"""Reads the tables `cohorts.KEY` of the main file and of the files that it includes."""

import glob
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Literal

from engine.config.cohort_settings import CohortSettings, ExcludeSettings, Mode
from engine.config.config_file import ConfigFile
from engine.config.files import path_from
from engine.config.lake_tables import LAKE_KEYS, read_lake_table
from engine.config.queries import read_query_source
from engine.config.variables import Keys
from engine.errors import UsageError
from engine.model.cohort import TextProblem, id_problem, name_problem, text_problem
from engine.model.setting_values import (
    Texts,
)
from engine.planning.settings import GuardSettings
from engine.source.dates import date_problem, without_dates
from engine.source.files.patterns import pick_problem
from engine.source.lake.naming import is_table
from engine.source.sql.query import Query
from engine.source.urls import display_url, file_path, is_url

_PUSH_GUARDS = frozenset({"max_spread_hours"})
"""The guards that are checked without a comparison with the cohort."""
_WHOLE_LIST_GUARDS = frozenset({"expected_size", "max_duplicates"})
"""The guards of a list of all members."""


@dataclass(frozen=True, slots=True)
class Common:
    """What the main file sets that cohorts refer to."""

    workspaces: Sequence[str]
    """The names that there are."""
    guards: GuardSettings
    connections: Collection[str] = ()
    """The names that there are."""
    queries: Mapping[str, Query | None] = field(default_factory=dict)
    """The shared queries by name; None for an invalid one."""


def read_cohorts(files: Iterable[ConfigFile], common: Common) -> dict[str, CohortSettings]:
    """Read every cohort; an invalid one is a problem in its file."""
    found: dict[str, CohortSettings] = {}
    ids: dict[tuple[str, str], CohortSettings] = {}
    markers: dict[str, str] = {}
    for file in files:
        for key in file.tables.names(("cohorts",)):
            reading = _CohortTable(file, ("cohorts", key), common)
            settings = reading.read()
            if settings is None:
                continue
            if key in found:
                reading.refuse((), f"is in {found[key].file}, too: each cohort has one table")
                continue
            other = ids.setdefault((settings.workspace, settings.id), settings)
            if other is not settings:
                where = f"`cohorts.{other.key}` in {other.file}"
                reading.refuse(("id",), f"is the id of {where}, too, in the same workspace")
            if settings.marker is not None:
                holder = markers.setdefault(settings.marker, key)
                if holder != key:
                    reading.refuse(("marker",), f"is the marker of `cohorts.{holder}`, too")
            found[key] = settings
    return found


@dataclass(frozen=True, slots=True)
class _CohortTable:
    file: ConfigFile
    at: Keys
    common: Common

    def read(self) -> CohortSettings | None:
        """Return the settings; None if it is no table."""
        key, tables = self.at[-1], self.file.tables
        base = CohortSettings(key=key, id=key, file=self.file.path or Path())
        settings = tables.read(self.at, CohortSettings, base)
        if not tables.is_table(self.at):
            return None
        settings = replace(settings, query=self._query(()))
        self._check_texts(settings)
        self._check_mode(settings)
        self._check_waiting(settings)
        self._check_pick(settings)
        return replace(
            settings,
            workspace=self._workspace(settings, self.common.workspaces),
            source=self._source((), settings.source),
            wait_for=self._awaited_marker(settings),
            marker=self._marker(settings),
            guards=self._guards(settings, self.common.guards),
            exclude=self._exclude(settings.mode),
        )

    def refuse(self, below: Keys, clause: str) -> None:
        self.file.tables.refuse((*self.at, *below), clause)

    def _holds(self, *below: str) -> bool:
        return self.file.tables.holds((*self.at, *below))

    def _check_texts(self, settings: CohortSettings) -> None:
        self._check(("id",), id_problem(settings.id))
        if self._holds("id"):
            self._check((), id_problem(settings.key))
        if self._holds("name"):
            self._check(("name",), name_problem(settings.name) if settings.name else None)
        else:
            self.refuse(("name",), "is needed: the name that the dashboard shows")
        self._check(("description",), text_problem(settings.description or ""))
        self._check(("owner",), text_problem(settings.owner or ""))
        self._check(("tags",), text_problem("".join(settings.tags)))

    def _check(self, below: Keys, problem: TextProblem | None) -> None:
        if problem is not None:
            self.refuse(below, problem.clause)

    def _check_mode(self, settings: CohortSettings) -> None:
        query, is_changes = settings.query, settings.mode == "changes"
        if query is None:
            is_query = self.file.tables.is_table((*self.at, "source")) and not any(
                self._holds("source", key) for key in LAKE_KEYS
            )
            is_wrong = is_changes and not is_query  # Else the query has a problem of its own.
        else:
            is_wrong = is_changes != query.lists_changes
        if is_wrong and is_changes:
            self.refuse(
                ("mode",),
                'can\'t be "changes": that needs a query with `action_column` and `order_column`',
            )
        elif is_wrong:
            self.refuse(("mode",), 'should be "changes": the rows of its query say add or remove')

    def _check_waiting(self, settings: CohortSettings) -> None:
        if settings.wait_for is True and settings.query is not None:
            self.refuse(
                ("wait_for",), "should be the path of a marker: a query has no file to wait for"
            )
        if self._holds("wait_minutes") and not self._holds("wait_for"):
            self.refuse(("wait_minutes",), "needs `wait_for`: true, or the path of a marker")

    def _check_pick(self, settings: CohortSettings) -> None:
        if settings.pick != "newest":
            return
        for text in settings.source:
            with suppress(UsageError):  # The URL of a file of another machine; see `_name_of`.
                if problem := pick_problem(text):
                    name = display_url(text) if is_url(text) else text
                    shown = self.file.tables.shown((*self.at, "source"), name)
                    self.refuse(("pick",), f'can\'t be "newest" for {shown}: {problem}')

    def _workspace(self, settings: CohortSettings, workspaces: Sequence[str]) -> str:
        """Return the name of the cohort's workspace; of any if it names none of them."""
        if settings.workspace in workspaces:
            return settings.workspace
        keys = (*self.at, "workspace")
        names = ", ".join(f'"{name}"' for name in workspaces)
        if self._holds("workspace"):
            if settings.workspace:
                shown = self.file.tables.shown(keys, settings.workspace)
                self.refuse(("workspace",), f"should be one of {names}, not {shown}")
        elif len(workspaces) > 1:
            self.refuse(("workspace",), f"is needed, since there are several: one of {names}")
        return workspaces[0] if len(workspaces) == 1 else ""

    def _source(self, below: Keys, source: Texts) -> tuple[str, ...]:
        keys: Keys = (*below, "source")
        if not self._holds(*keys):
            self.refuse(keys, "is needed: a file, glob, folder, URL or query")
        if (table := read_lake_table(self.file, (*self.at, *keys))) is not None:
            self._refuse_file_keys(below, "a table")
            source = (table,)
        made = (self._name(keys, each) for each in source)
        return tuple(each for each in made if each is not None)

    def _query(self, below: Keys) -> Query | None:
        """Return the query that a table `source` says; None without one, or after a problem."""
        at = (*self.at, *below, "source")
        holds = self.file.tables.holds
        if not self.file.tables.is_table(at) or any(holds((*at, key)) for key in LAKE_KEYS):
            return None
        self._refuse_file_keys(below, "the result of a query")
        return read_query_source(
            self.file, at, self.at[-1], self.common.connections, self.common.queries
        )

    def _refuse_file_keys(self, below: Keys, what: str) -> None:
        for key in ("format", "header", *(() if below else ("pick",))):
            if self._holds(*below, key):
                self.refuse((*below, key), f"is for files: {what} has columns")

    def _marker(self, settings: CohortSettings) -> str | None:
        """Return the absolute path of the cohort's own marker, with dates."""
        text = settings.marker
        if text is None or self._has_invalid_date(("marker",), text):
            return None
        if is_url(text) or text.lower().startswith("file:"):
            self.refuse(("marker",), "should be a path, not a URL")
            return None
        folder = Path(without_dates(str(self.file.folder)))
        place = self.file.tables.place((*self.at, "marker"))
        path = self.file.problems.made(place, partial(path_from, folder), text)
        return None if path is None else str(path)

    def _awaited_marker(self, settings: CohortSettings) -> Literal[True] | str | None:
        if not isinstance(settings.wait_for, str):
            return settings.wait_for
        return self._name(("wait_for",), settings.wait_for)

    def _name(self, below: Keys, text: str) -> str | None:
        """Return `_name_of` the text of a key; None after a problem."""
        if self._has_invalid_date(below, text):
            return None
        place = self.file.tables.place((*self.at, *below))
        return self.file.problems.made(place, self._name_of, text)

    def _has_invalid_date(self, below: Keys, text: str) -> bool:
        """Return whether the dates in the text of a key are invalid, which is a problem."""
        if problem := date_problem(text):
            is_secret = self.file.tables.variables((*self.at, *below))
            self.refuse(below, "has an invalid date" + ("" if is_secret else f": {problem}"))
        return problem is not None

    def _name_of(self, text: str) -> str:
        """Return a path relative to the file as an absolute one, and a URL as it is, with dates.

        Only the text has dates and wildcards: neither the folder before it nor the home folder has.
        """
        if text == "-":
            raise ValueError("may not be `-`: a scheduled run has no standard input")
        if text.lower().startswith("file:"):
            try:
                file_path(text)
            except UsageError:
                raise ValueError(
                    "names another machine: file:// is for files of this one"
                ) from None
            return text
        if is_url(text):
            return text
        if is_table(text):
            kind, _, table = text.partition(":")
            if kind == "iceberg" or is_url(table):
                return text
            return f"{kind}:{path_from(Path(without_dates(str(self.file.folder))), table)}"
        folder, rest = self.file.folder, text
        if text.startswith("~"):
            home, _, rest = text.partition("/")
            folder = path_from(folder, home)
        before = str(folder)
        if glob.has_magic(text):
            before = glob.escape(before)
        path = path_from(Path(without_dates(before)), rest)
        return f"{path}/" if rest.endswith("/") else str(path)  # Only folders match the former.

    def _guards(self, settings: CohortSettings, common: GuardSettings) -> GuardSettings:
        found = self.file.tables.read((*self.at, "guards"), GuardSettings, common)
        check_guards(self.file, (*self.at, "guards"), found)
        names = {each.name for each in fields(GuardSettings) if self._holds("guards", each.name)}
        match settings.mode:
            case "mirror":
                refused, reason = frozenset[str](), ""
            case "changes":
                refused, reason = _WHOLE_LIST_GUARDS, "its list does not name all members"
            case _:
                refused = frozenset(names - _PUSH_GUARDS)
                reason = "only a mirror compares"
        for name in sorted(names & refused):
            self.refuse(
                ("guards", name), f'can\'t be checked with mode = "{settings.mode}": {reason}'
            )
        return found

    def _exclude(self, mode: Mode) -> ExcludeSettings | None:
        settings = self.file.tables.read((*self.at, "exclude"), ExcludeSettings)
        if not self.file.tables.is_table((*self.at, "exclude")):
            return None
        if mode == "remove":
            self.refuse(
                ("exclude",), 'can\'t be used with mode = "remove": it says who is not added'
            )
        query = self._query(("exclude",))
        if query is not None and query.lists_changes:
            self.refuse(
                ("exclude", "source"),
                "can't have an `action_column`: a list of uids has no actions",
            )
        return replace(settings, source=self._source(("exclude",), settings.source), query=query)


def check_guards(file: ConfigFile, at: Keys, settings: GuardSettings) -> None:
    """Add a problem if guards that are valid by themselves contradict each other."""
    problem = settings.problem
    if problem is None or not file.tables.holds((*at, problem.key)):
        return
    keys = (*at, problem.key)
    is_secret = not problem.detail or file.tables.variables(keys)
    file.tables.refuse(keys, problem.clause + ("" if is_secret else f": {problem.detail}"))
