"""`report` on real runs of several nights: text, JSON and a page, looked at in a browser."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from browser import CHROMIUM, chromium, open_tab
from clean_room import API_KEY, ROOT
from emulated_api import emulator
from mornings import EMULATED, NOW, POISON, SECOND_WORKSPACE, Mornings, nanoseconds
from nightly import CommandLine

from engine.config.loading import load
from engine.model.foreign_text import UNSAFE
from engine.page.rendering import write_configured_page, write_page
from engine.page.settings import ReportSettings
from engine.report.accounts import MirrorFigures, Standing
from engine.report.period import Level, PeriodReport
from engine.report.period_reading import report_on
from period_reports import HOSTILE, LONG, accounts, cohort, report

DAY_NS = 86_400 * 10**9


@pytest.fixture(scope="module")
def mornings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mornings]:
    """Make a state folder with two nights of two workspaces; the moments are moved."""
    folder = tmp_path_factory.mktemp("mornings")
    patch = pytest.MonkeyPatch()
    patch.setattr("engine.ledger.neighbors.runtime_folders", list)
    with patch.context(), emulator(folder, "--per-seconds", "0.2", *EMULATED) as api:
        made = Mornings(CommandLine(folder, api.url), size=60)
        made.live()
    patch.undo()
    made.enter_sync()
    made.move()
    yield made
    made.cli.end()


@pytest.fixture
def last_day(mornings: Mornings) -> PeriodReport:
    now = nanoseconds(NOW)
    return report_on(mornings.cli.folder / "state", now - DAY_NS, now)


def test_each_cohort_is_reported_as_its_last_run_or_sync_left_it(last_day: PeriodReport) -> None:
    assert {each.cohort_id: (each.level, each.status) for each in last_day.cohorts} == {
        "lapsed-90": (Level.FAILED, "guarded"),
        "prospects": (Level.FAILED, "missing"),
        "newsletter": (Level.ATTENTION, "finished"),
        "winback": (Level.ATTENTION, "not_begun"),
        "cart": (Level.OK, "finished"),
        "eu-churned": (Level.OK, "finished"),
        "vip": (Level.OK, "finished"),
        "eu-vip": (Level.OK, "finished"),
    }
    assert last_day.verdict == "4 of 8 cohorts need attention."
    assert last_day.level is Level.FAILED
    commands = [each.next_step.command for each in last_day.exceptions if each.next_step]
    runs = {each.cohort_id: each.accounts.run for each in last_day.cohorts if each.accounts}
    assert commands == [
        f"cohortsync show {runs['lapsed-90']}",
        "cohortsync sync prospects",
        f"cohortsync rejects {runs['newsletter']}",
        "cohortsync sync winback",
    ]
    [lapsed] = [each for each in last_day.cohorts if each.cohort_id == "lapsed-90"]
    [removals] = [each for each in lapsed.guards if each["guard"] == "removals"]
    assert (removals["count"], removals["limit"]) == (360, 48)
    assert lapsed.next_step is not None
    assert "sync lapsed-90 --allow lapsed-90:removals=360" in str(lapsed.next_step.hint)


def test_the_figures_are_those_of_the_runs(last_day: PeriodReport, mornings: Mornings) -> None:
    sent = {each.workspace: each.total.sent for each in last_day.workspaces}
    assert sum(sent.values()) == sum(run.requests.sent for run in last_day.runs)
    assert SECOND_WORKSPACE in sent
    throttled = sum(run.requests.throttled for run in last_day.runs)
    assert sum(each.status_counts.get(429, 0) for each in last_day.workspaces) == throttled
    vip = next(each for each in last_day.members if each.cohort_id == "vip")
    assert [each.members for each in vip.counts] == [240, 247]
    assert {each.kind for each in last_day.rejects} == {"rejected", "invalid"}
    now = nanoseconds(NOW)
    both = report_on(mornings.cli.folder / "state", now - 2 * DAY_NS, now)
    assert len(both.runs) == len(last_day.runs) + 2
    assert [each.cohort_id for each in both.cohorts] == [
        each.cohort_id for each in last_day.cohorts
    ]


def test_a_sync_writes_the_configured_page(mornings: Mornings, tmp_path: Path) -> None:
    state, now = mornings.cli.folder / "state", nanoseconds(NOW)
    assert write_configured_page(ReportSettings(), state, now) is None
    for hours, verdict in ((24.0, "4 of 8 cohorts need attention."), (1.0, "Nothing ran")):
        settings = ReportSettings(html=str(tmp_path / "page.html"), since_hours=hours)
        path = write_configured_page(settings, state, now)
        assert path == tmp_path / "page.html"
        assert verdict in path.read_text(encoding="utf-8")


def test_a_period_without_runs(mornings: Mornings) -> None:
    now = nanoseconds(NOW)
    found = report_on(mornings.cli.folder / "state", now - DAY_NS // 24, now)
    assert (found.level, found.verdict) == (Level.EMPTY, "Nothing ran in this period.")
    assert found.members


@pytest.mark.parametrize("form", [(), ("--json",), ("--html", "page.html")])
def test_no_form_holds_a_uid_or_a_credential(mornings: Mornings, form: tuple[str, ...]) -> None:
    cli = mornings.cli
    for path in cli.ledger_files():  # As if the API quoted the uid, as it may.
        with closing(sqlite3.connect(path)) as ledger, ledger:
            ledger.execute("UPDATE rejected SET reason = '400: ' || uid || ' is not valid'")

    def output(*more: str) -> str:
        ended = cli.run("report", "--since", "52w", *form, *more)
        assert ended.status == 0, ended.stderr
        page = cli.folder / "page.html"
        text = page.read_text(encoding="utf-8") if "--html" in form else ended.stdout
        page.unlink(missing_ok=True)
        return text + ended.log

    text = output()
    assert POISON not in text
    assert not re.search(r"-uid-\d{6}", text)
    assert API_KEY not in text
    assert POISON in output("--with-uids")


def test_the_text_fits_a_terminal(mornings: Mornings) -> None:
    ended = mornings.cli.run("report", "--since", "52w", on_terminal=True)
    lines = ended.stdout.splitlines()
    assert lines[0] == "✗ 4 of 8 cohorts need attention."
    assert max(map(len, lines)) <= 80
    assert "  ✗ prospects (NIGHTLY): no export" in lines
    assert lines.index("Cohorts") < lines.index("Accounting")
    assert not set(UNSAFE.findall(ended.stdout)) - {"\n"}


def test_a_list_of_runs_names_the_workspace_if_there_are_several(mornings: Mornings) -> None:
    lines = mornings.cli.run("runs", on_terminal=True).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(SECOND_WORKSPACE in line for line in lines)
    one = mornings.cli.run("runs", "--cohort", "vip").stdout
    assert "workspace" not in one


def test_json_is_one_document(mornings: Mornings) -> None:
    document = mornings.cli.run("report", "--since", "52w", "--json").document
    assert document["verdict"] == "4 of 8 cohorts need attention."
    assert len(document["cohorts"]) == 8
    assert "rejected_uids" not in document
    assert json.dumps(document)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--since", "1x"), "--since should be a duration of up to a year, not 1x"),
        (("--since", "0h"), "--since should be a duration of up to a year, not 0h"),
        (("--since", "2y"), "--since should be a duration"),
        (("--html", "no/page.html"), "no/page.html cannot be written: No such file or directory"),
        (("--state", "nowhere"), "is not there"),
    ],
)
def test_a_mistake_is_one_error(mornings: Mornings, words: tuple[str, ...], error: str) -> None:
    ended = mornings.cli.run("report", *words)
    assert ended.status == 2
    assert error in ended.stderr
    assert "hint: " in ended.stderr


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")
async def test_a_browser_shows_every_page_whole(mornings: Mornings, tmp_path: Path) -> None:
    now = nanoseconds(NOW)
    many = MirrorFigures(add=Standing(600_000_000, 600_000_000))
    large = replace(accounts("VIP customers"), mirror=many)
    pages = {
        "large": replace(report([cohort("VIP customers")]), runs=[large]),
        "morning": report_on(mornings.cli.folder / "state", now - DAY_NS, now, with_uids=True),
        "empty": report_on(mornings.cli.folder / "state", now - 1, now),
        "hostile": report([cohort(HOSTILE, 4), cohort(LONG, 1)], HOSTILE, with_uids=True),
        "long": report([cohort(f"{LONG}{number}") for number in range(200)], LONG),
    }
    with chromium(tmp_path) as port:
        async with open_tab(port) as tab:
            for name, found in pages.items():
                path = tmp_path / f"{name}.html"
                write_page(found, path)
                await tab.open(path)
                for width in (1280, 1024, 768, 360) if name == "morning" else (1280, 360):
                    await tab.show(width, "light")
                    assert await tab.overflowing() == [], (name, width)
                for theme in ("dark", "light") if name != "long" else ():
                    await tab.show(360, theme)
                    assert await tab.overflowing() == [], (name, theme)
                    assert await tab.low_contrasts() == [], (name, theme)
                await tab.show(794, "dark", media="print")
                assert await tab.overflowing() == [], name
                assert len(await tab.screenshot()) > 10_000
            assert tab.requests == [(tmp_path / f"{name}.html").as_uri() for name in pages]
            assert tab.complaints == []


def test_the_commands_of_the_handbook(mornings: Mornings) -> None:
    handbook = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    commands = [line.split() for line in re.findall(r"(?m)^cohortsync (.*)$", handbook)]
    assert len(commands) == 3
    for words in commands:
        assert mornings.cli.run(*words).status == 0
    assert (mornings.cli.folder / "morning.html").read_text().startswith("<!doctype html>")


def test_the_configuration_of_the_handbook(tmp_path: Path) -> None:
    handbook = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    [toml] = re.findall(r"```toml\n(.*?)```", handbook, flags=re.DOTALL)
    path = tmp_path / "config.toml"
    path.write_text(f'[workspace]\nid = "W"\ndata_center = "01"\n{toml}', encoding="utf-8")
    found = load(path, need_credentials=False, environ={}).report
    assert found == ReportSettings(html=str(tmp_path / "morning.html"))
