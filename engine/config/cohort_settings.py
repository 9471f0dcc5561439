"""The settings of one cohort, of the tables `cohorts.KEY`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from engine.config.toml_settings import NOT_A_KEY
from engine.model.cohort import Action, Cohort
from engine.model.setting_values import (
    SHOULD_BE_COMMAND,
    SHOULD_BE_DURATION,
    SHOULD_BE_LIST,
    SHOULD_BE_TEXT,
    SHOULD_BE_TEXTS_OR_QUERY,
    SHOULD_BE_TIME,
    Command,
    Duration,
    Text,
    TextList,
    TextsOrTable,
    TimeOfDay,
)
from engine.planning.settings import GuardSettings
from engine.source.options import Format, ReadingOptions
from engine.source.sql.query import Query

Mode = Literal["mirror", "changes", "add", "remove"]
FormatName = Literal["auto"] | Format


@dataclass(frozen=True, slots=True)
class ExcludeSettings:
    """An export whose uids are always left out of a cohort."""

    source: TextsOrTable = field(default=(), metadata=SHOULD_BE_TEXTS_OR_QUERY)
    """Files, globs, folders or URLs, which may have dates such as {date}; one or a list. A path is
    relative to this file's folder. Or a table: of a query with `connection` and `query`, or of a
    lake with `delta` or `iceberg`."""
    column: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The column of the uids: a name, a number without a header, or the dotted path of a field."""
    format: FormatName = "auto"
    """How the files are read; by default detected by suffix, then by content."""
    header: bool = True
    """Whether the first record of a csv or tsv file names the columns."""
    strip: bool = False
    """Whether white space around a uid is removed."""
    query: Query | None = field(default=None, metadata=NOT_A_KEY)
    """The query whose result is read in place of files."""

    @property
    def reading(self) -> ReadingOptions:
        """How the files are read."""
        return ReadingOptions(self.column, self.format, self.header, self.strip)


@dataclass(frozen=True, slots=True)
class CohortSettings:
    """One cohort of the configuration: what is sent to it, from where, and when."""

    key: str = field(default="", metadata=NOT_A_KEY)
    """The name of its table, by which commands name the cohort."""
    file: Path = field(default=Path(), metadata=NOT_A_KEY)
    """The file with its table."""
    id: str = field(default="", metadata=SHOULD_BE_TEXT)
    """The cohort's id in the API; by default, the name of its table."""
    name: str = field(default="", metadata=SHOULD_BE_TEXT)
    """The name that the dashboard shows. Required."""
    description: str | None = None
    """What the cohort is for."""
    source: TextsOrTable = field(default=(), metadata=SHOULD_BE_TEXTS_OR_QUERY)
    """Files, globs, folders or URLs, which may have dates such as {date}; one or a list. A path is
    relative to this file's folder. Or a table: of a query with `connection` and `query`, or of a
    lake with `delta` or `iceberg`. Required."""
    column: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The column of the uids: a name, a number without a header, or the dotted path of a field."""
    format: FormatName = "auto"
    """How the files are read; by default detected by suffix, then by content."""
    header: bool = True
    """Whether the first record of a csv or tsv file names the columns."""
    strip: bool = False
    """Whether white space around a uid is removed."""
    mode: Mode = "mirror"
    """mirror: make the cohort equal to the export; changes: add and remove as the rows of a query
    say; add or remove: push the export's uids."""
    workspace: str = field(default="", metadata=SHOULD_BE_TEXT)
    """The name of its workspace; needed only if there are several."""
    enabled: bool = True
    """Whether `cohortsync sync` includes it."""
    priority: Annotated[int, Ge(-1_000_000), Le(1_000_000)] = 0
    """The cohort with the higher number is sent first."""
    deadline: TimeOfDay | None = field(default=None, metadata=SHOULD_BE_TIME)
    """The time of day by which it should be complete."""
    owner: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """Who is told about it."""
    tags: TextList = field(default=(), metadata=SHOULD_BE_LIST)
    """Names by which commands select several cohorts."""
    on_changed: Literal["refuse", "restart"] = "refuse"
    """What to do if an unfinished push can't continue, since its export changed."""
    expect_every: Duration | None = field(default=None, metadata=SHOULD_BE_DURATION)
    """How long after its last success the cohort is overdue."""
    pick: Literal["all", "newest"] = "all"
    """Of the files or folders that match `source`: all, or only the newest."""
    wait_for: Literal[True] | Text | None = field(
        default=None, metadata={"should_be": "true for the export itself, or the path of a marker"}
    )
    """What to wait for before the export is read: the path, pattern or URL of a marker, which may
    have dates, or true for the export itself."""
    wait_minutes: Annotated[float, Ge(0.01), Le(100_000)] = 60.0
    """How long to wait for that file."""
    after: Command | None = field(default=None, metadata=SHOULD_BE_COMMAND)
    """A program and its arguments, run without a shell once the cohort is complete."""
    marker: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The path of a file that exists only while the cohort is complete; it may have dates."""
    partial_is_complete: bool = False
    """Whether the cohort counts as complete with exit status 1."""
    guards: GuardSettings = field(default_factory=GuardSettings, metadata=NOT_A_KEY)
    """Its guards: those of its own table, and otherwise the common ones."""
    exclude: ExcludeSettings | None = field(default=None, metadata=NOT_A_KEY)
    """Uids that are always left out."""
    query: Query | None = field(default=None, metadata=NOT_A_KEY)
    """The query whose result is read in place of files."""

    @property
    def push_action(self) -> Action | None:
        """What a push of its export does; None for a cohort that is mirrored."""
        return None if self.mode in {"mirror", "changes"} else Action(self.mode)

    @property
    def cohort(self) -> Cohort:
        """The cohort as the API knows it."""
        return Cohort(self.id, self.name, self.description)

    @property
    def reading(self) -> ReadingOptions:
        """How the files are read."""
        return ReadingOptions(self.column, self.format, self.header, self.strip)
