"""A configured export of a day: its dates, the newest, and the wait until it is complete."""

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

import pytest

from engine.delivery.stop import StopSwitch
from engine.errors import (
    IncompleteError,
    MissingExportError,
    SourceError,
    SourceUnavailableError,
    UsageError,
)
from engine.runs import configured_export
from engine.runs.configured_export import ConfiguredExport, Pick, Surroundings, WaitFor, resolve
from engine.source.options import ReadingOptions
from engine.source.spec import SourceSpec
from engine.source.sql.query import Query, QueryResult
from virtual_time import START, VirtualClock, run_virtually

T = TypeVar("T")
DAY = date(2026, 11, 27)
OPTIONS = ReadingOptions(column="uid")


class SpooledQueries:
    """Runs no query: each has a result at once."""

    async def result(
        self, query: Query, options: ReadingOptions, *, is_exclusion: bool
    ) -> QueryResult:
        del options
        return QueryResult(query, "digest", Path("out" if is_exclusion else "in"), 1)


class Morning:
    """A folder in which files are written at certain seconds, in virtual time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.events: dict[float, Callable[[], object]] = {}
        self.notes: list[str] = []
        self.switch = StopSwitch()
        self.ended = 0.0
        self.looks = 0
        monkeypatch.setattr(configured_export, "read_or_stop", self._read)

    async def _read(self, read: Callable[[], T], switch: StopSwitch) -> T:
        """Read in the loop, as a thread does not end in virtual time."""
        switch.refuse_if_pulled()
        self.looks += 1
        return read()

    def write(self, at: float, name: str, text: str = "uid\na\n") -> None:
        def written() -> None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

        self.events[at] = written

    def resolve(
        self,
        *names: str,
        wait: WaitFor | None = None,
        pick: Pick = "all",
        exclude: ConfiguredExport | None = None,
        query: Query | None = None,
    ) -> SourceSpec:
        async def main() -> SourceSpec:
            for at, event in self.events.items():
                asyncio.get_running_loop().call_later(at, event)
            export = ConfiguredExport(
                tuple(f"{self.folder}/{name}" for name in names),
                OPTIONS,
                pick,
                wait,
                exclude,
                query,
            )
            clock = VirtualClock()
            try:
                return await resolve(
                    export,
                    DAY,
                    Surroundings(
                        clock,
                        self.switch,
                        lambda text, **_: self.notes.append(text),
                        SpooledQueries(),
                    ),
                )
            finally:
                self.ended = clock.now() - START

        return run_virtually(main)

    def spec(self, *names: str, day: str | None = None) -> SourceSpec:
        return SourceSpec(tuple(f"{self.folder}/{name}" for name in names), OPTIONS, day)


@pytest.fixture
def morning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Morning:
    return Morning(tmp_path, monkeypatch)


def test_the_dates_are_frozen(morning: Morning) -> None:
    found = morning.resolve("vip-{date}*.csv", "old-{yesterday:%d}.csv", "{{a}}")
    assert found == morning.spec("vip-2026-11-27*.csv", "old-26.csv", "{a}", day="2026-11-27")
    assert SourceSpec.from_dict(found.to_dict()) == found
    assert morning.resolve("a*.csv") == morning.spec("a*.csv")


def test_the_dates_of_an_exclusion_list_are_frozen_with_those_of_its_export(
    morning: Morning,
) -> None:
    listed = ConfiguredExport((f"{morning.folder}/out-{{date}}.txt",))
    found = morning.resolve("vip.csv", exclude=listed)
    assert found.exclude == SourceSpec((f"{morning.folder}/out-2026-11-27.txt",), date="2026-11-27")
    assert SourceSpec.from_dict(found.to_dict()) == found


def test_the_dates_of_a_query_are_frozen(morning: Morning) -> None:
    text = "select uid from audience where day = '{date}'"
    listed = ConfiguredExport((), query=Query("lake", "select uid from gone where day > {date:%j}"))
    found = morning.resolve(query=Query("lake", text, "cohort", "vip"), exclude=listed)
    query = Query("lake", "select uid from audience where day = '2026-11-27'", "cohort", "vip")
    assert found.query == QueryResult(query, "digest", Path("in"), 1)
    assert found.date == "2026-11-27"
    assert found.exclude is not None
    assert found.exclude.query is not None
    assert found.exclude.query.query.text == "select uid from gone where day > 331"
    assert found.exclude.query.spool == Path("out")
    assert SourceSpec.from_dict(found.to_dict()) == found
    assert found.names == [f"lake: {query.text} (cohort = vip)"]


def test_the_newest_is_frozen(morning: Morning) -> None:
    for day in (26, 27):
        morning.write(0, f"dt=2026-11-{day}/a.csv")
        morning.events.pop(0)()
    assert morning.resolve("dt=*", pick="newest") == morning.spec("dt=2026-11-27")


def test_an_export_that_is_not_waited_for_need_not_be_there(morning: Morning) -> None:
    assert morning.resolve("none-{date}.csv") == morning.spec(
        "none-2026-11-27.csv", day="2026-11-27"
    )
    with pytest.raises(MissingExportError, match="no file matches"):
        morning.resolve("none*.csv", pick="newest")


def test_a_missing_exclusion_list_is_no_missing_export(morning: Morning) -> None:
    listed = ConfiguredExport((f"{morning.folder}/out*.txt",), pick="newest")
    with pytest.raises(SourceError, match=r"^exclusion list: .*/out\*.txt: no file") as caught:
        morning.resolve("vip.csv", exclude=listed)
    assert type(caught.value) is SourceError


def test_a_marker_is_waited_for(morning: Morning) -> None:
    morning.write(0, "a-2026-11-27.csv")
    morning.write(95, "2026-11-27/_SUCCESS", "")
    wait = WaitFor(10, f"{morning.folder}/{{date}}/_SUCCESS")
    found = morning.resolve("a-{date}.csv", wait=wait)
    assert found.files == (f"{morning.folder}/a-2026-11-27.csv",)
    assert 95 < morning.ended < 95 + 31
    assert morning.notes == [
        f"waiting up to 10 min for the marker {morning.folder}/2026-11-27/_SUCCESS"
    ]
    morning.notes.clear()
    morning.resolve("a-{date}.csv", wait=wait)
    assert morning.ended < 1
    assert not morning.notes


def test_an_export_is_waited_for_until_it_is_no_longer_written(morning: Morning) -> None:
    morning.write(40, "a.csv", "")
    for second in range(100, 301, 20):
        morning.write(second, "a.csv", "uid\n" + "a\n" * second)
    morning.resolve("*.csv", wait=WaitFor(10))
    assert 330 <= morning.ended < 370


def test_a_new_partition_is_waited_for_until_it_is_stable(morning: Morning) -> None:
    morning.write(0, "dt=2026-11-26/a.csv")
    morning.write(50, "dt=2026-11-27/a.csv")
    morning.write(70, "dt=2026-11-27/b.csv")
    morning.resolve("dt={date}", wait=WaitFor(10))
    assert 100 <= morning.ended < 130


@pytest.mark.parametrize(
    ("content", "marker", "lack", "kind"),
    [
        (None, None, r"for the export .*/a.csv: .*/a.csv: no such file$", MissingExportError),
        ("", None, "it has no content", SourceError),
        (
            *("x", "_SUCCESS", r"for the marker .*/_SUCCESS: .*/_SUCCESS: no such file$"),
            MissingExportError,
        ),
    ],
)
def test_a_wait_has_a_limit(
    morning: Morning, content: str | None, marker: str | None, lack: str, kind: type[SourceError]
) -> None:
    if content is not None:
        morning.write(0, "a.csv", content)
    wait = WaitFor(2.5, marker and f"{morning.folder}/{marker}")
    with pytest.raises(
        SourceError, match=rf"^waited 2.5 min {'.*' if content == '' else ''}{lack}"
    ) as caught:
        morning.resolve("a.csv", wait=wait)
    assert (type(caught.value), caught.value.exit_status) == (kind, 2)
    assert 150 <= morning.ended < 151
    assert morning.looks == 6


def test_a_file_that_is_always_written_ends_the_wait(morning: Morning) -> None:
    for second in range(0, 200, 10):
        morning.write(second, "a.csv", "a\n" * (second + 1))
    with pytest.raises(SourceError, match="may still be written"):
        morning.resolve("a.csv", wait=WaitFor(2))


def test_an_unreachable_server_is_asked_again_and_a_mistake_is_not(
    morning: Morning, monkeypatch: pytest.MonkeyPatch
) -> None:
    morning.write(0, "a.csv")
    states = SourceSpec.states

    def flaky(spec: SourceSpec) -> object:
        if morning.looks < 3:
            raise SourceUnavailableError("the server cannot be reached")
        return states(spec)

    monkeypatch.setattr(SourceSpec, "states", flaky)
    morning.resolve("a.csv", wait=WaitFor(5))
    assert 90 <= morning.ended < 91
    with pytest.raises(UsageError, match="is not known"):
        morning.resolve("a.csv", wait=WaitFor(5, "nothing://a"))


def test_a_stop_ends_the_wait(morning: Morning) -> None:
    morning.events[45] = lambda: morning.switch.pull("SIGTERM came")
    with pytest.raises(IncompleteError, match="SIGTERM came"):
        morning.resolve("a.csv", wait=WaitFor(60))
    assert 45 <= morning.ended < 46
