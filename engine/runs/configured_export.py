"""A configured export: waits until it is complete, and finds out which files it is today.

Nothing is held meanwhile: no lock, no connection. The result is a `SourceSpec` without dates and
patterns of its own, so that a run that is resumed after midnight reads the same export.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal, Protocol, Self

from engine.clock import Clock
from engine.config.cohort_settings import CohortSettings
from engine.delivery.stop import StopSwitch
from engine.errors import MissingExportError, SourceError
from engine.runs.arguments import Note
from engine.runs.exports import about_exclusion
from engine.runs.interruptible import read_or_stop, wait_or_stop
from engine.source.dates import expand_dates, has_dates
from engine.source.files.file_state import FileState
from engine.source.options import ReadingOptions
from engine.source.spec import SourceSpec
from engine.source.sql.query import Query, QueryResult

Pick = Literal["all", "newest"]
"""Which of the matches of a pattern are read."""


@dataclass(frozen=True, slots=True)
class WaitFor:
    """What to wait for before an export is read."""

    minutes: float
    """The longest wait."""
    marker: str | None = None
    """The path, pattern or URL of a file that is written after the export, which may have dates.
    None waits for the export itself, until two looks find the same files, sizes and times."""
    poll_seconds: float = 30.0
    """The time between two looks."""


@dataclass(frozen=True, slots=True)
class ConfiguredExport:
    """Where the export of each day is, and how to read it."""

    names: tuple[str, ...]
    """As `SourceSpec.files`; with dates, see `engine.source.dates`."""
    options: ReadingOptions = field(default_factory=ReadingOptions)
    pick: Pick = "all"
    """`newest` reads one file or folder of each pattern; see `engine.source.files.picking`."""
    wait_for: WaitFor | None = None
    exclude: "ConfiguredExport | None" = None
    """The exclusion list."""
    query: Query | None = None
    """The query whose result is read in place of files; it may have dates."""

    @classmethod
    def of(cls, cohort: CohortSettings) -> Self:
        """Return the export that a cohort's table names."""
        wait = None
        if cohort.wait_for is not None:
            marker = None if cohort.wait_for is True else cohort.wait_for
            wait = WaitFor(cohort.wait_minutes, marker)
        listed = cohort.exclude
        exclude = None
        if listed is not None:
            exclude = cls(listed.source, listed.reading, query=listed.query)
        return cls(cohort.source, cohort.reading, cohort.pick, wait, exclude, cohort.query)

    def named(self, day: date) -> SourceSpec:
        """Return the names of `day`; raises `ValueError` for a `date_problem`."""
        names = tuple(expand_dates(name, day) for name in self.names)
        day_read = day.isoformat() if any(map(has_dates, self.names)) else None
        return SourceSpec(names, self.options, date=day_read)

    def chosen(self, day: date) -> SourceSpec:
        """Find which files, or which version of a table, are read on `day`.

        Raises as `named`, `SourceSpec.newest` and `SourceSpec.pinned`.
        """
        named = self.named(day)
        return named.newest() if self.pick == "newest" else named.pinned()


class QueryRunner(Protocol):
    """Runs the queries of one cohort."""

    async def result(
        self, query: Query, options: ReadingOptions, *, is_exclusion: bool
    ) -> QueryResult:
        """Return the result of a query without dates; see `CohortQueries.result`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What finding an export needs from the command that reads it."""

    clock: Clock
    switch: StopSwitch
    note: Note
    queries: QueryRunner


async def resolve(export: ConfiguredExport, day: date, within: Surroundings) -> SourceSpec:
    """Wait for an export if it asks for that; return which files it has on `day`.

    A query is run, unless an unfinished push of the cohort has the result.

    Raises `ValueError` for a `date_problem`, `SourceError` if it is not complete after the wait,
    which is `MissingExportError` if there is no file, `IncompleteError` if a stop comes meanwhile,
    and as `SourceSpec.newest` and `CohortQueries.result`.
    """
    wait = export.wait_for
    if wait is not None:
        named = export.named(day)
        marker = wait.marker and SourceSpec((expand_dates(wait.marker, day),))
        awaited = _Awaited(
            what=f"the marker {_shown(marker)}" if marker else f"the export {_shown(named)}",
            look=marker.states if marker else (lambda: export.chosen(day).states()),
            is_export=marker is None,
        )
        await _wait(awaited, wait, within)
    return await excluding_on(export, await _found(export, day, within), day, within)


async def _found(
    export: ConfiguredExport, day: date, within: Surroundings, *, is_exclusion: bool = False
) -> SourceSpec:
    """Return the spec of an export without its exclusion list."""
    if export.query is None:
        return await read_or_stop(lambda: export.chosen(day), within.switch)
    query = export.query.on(day)
    result = await within.queries.result(query, export.options, is_exclusion=is_exclusion)
    day_read = day.isoformat() if export.query.has_dates else None
    return SourceSpec((), export.options, date=day_read, query=result)


async def excluding_on(
    export: ConfiguredExport, spec: SourceSpec, day: date, within: Surroundings
) -> SourceSpec:
    """Return a spec with the exclusion list of `export` on `day`; raises as `resolve` does."""
    if export.exclude is None:
        return spec
    with about_exclusion():
        exclude = await _found(export.exclude, day, within, is_exclusion=True)
    return replace(spec, exclude=exclude)


@dataclass(frozen=True, slots=True)
class _Awaited:
    """The files to wait for."""

    what: str
    look: Callable[[], Mapping[str, FileState | None]]
    """Returns their states; raises `SourceError` if there are none."""
    is_export: bool
    """Whether the files must have content, and be the same in two looks."""


async def _wait(awaited: _Awaited, wait: WaitFor, within: Surroundings) -> None:
    """Look until the files are there, or raise `SourceError` at the end of the longest wait."""
    clock, switch = within.clock, within.switch
    deadline = clock.now() + wait.minutes * 60
    before: Mapping[str, FileState | None] | None = None
    is_told = False
    while True:
        found = None
        try:
            found = await read_or_stop(awaited.look, switch)
        except SourceError as error:  # A server that cannot be reached may answer the next time.
            lack = error
        if found is not None:
            if not awaited.is_export:
                return
            if all(state is not None and state.size == 0 for state in found.values()):
                found, lack = None, SourceError("it has no content")
            elif found == before:
                return
            else:
                lack = SourceError(
                    "it may still be written: the last two looks did not find the same"
                )
        before = found
        left = deadline - clock.now()
        if left <= 0:
            raise _not_complete(awaited, wait, lack)
        if not is_told:
            within.note(f"waiting up to {wait.minutes:g} min for {awaited.what}")
            is_told = True
        if await wait_or_stop(min(wait.poll_seconds, left), switch) is not None:
            switch.refuse_if_pulled()


def _not_complete(awaited: _Awaited, wait: WaitFor, lack: SourceError) -> SourceError:
    """Return the error at the end of the longest wait; `lack` is what the last look found."""
    kind = MissingExportError if isinstance(lack, MissingExportError) else SourceError
    return kind(
        f"waited {wait.minutes:g} min for {awaited.what}: {lack.message}",
        hint=lack.hint or "a longer wait is set by `wait_minutes`",
    )


def _shown(spec: SourceSpec) -> str:
    return ", ".join(spec.names)
