"""The morning page: what it holds, in which order, and what it never obeys."""

import os
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from engine.errors import LedgerError
from engine.model.foreign_text import UNSAFE
from engine.page.charts import SIZES, requests_charts
from engine.page.rendering import render, write_page
from engine.report.period import PeriodReport
from period_reports import HOSTILE, LONG, NOW, cohort, report, workspace

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """The tags and the text of a page; fails at a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


EMPTY = PeriodReport(NOW - 10**9, NOW, [], [], [], [], [])
REPORTS = {
    "empty": EMPTY,
    "one cohort": report([cohort("VIP")]),
    "all kinds of ends": report(
        [cohort(f"c{status}", status) for status in (70, 4, 3, 2, 75, 1, 0)]
    ),
    "hostile": report([cohort(HOSTILE, 4, cohort_id=HOSTILE)] * 2, HOSTILE, with_uids=True),
    "long names": report([cohort(LONG, 1, cohort_id=LONG)], LONG, with_uids=True),
    "200 cohorts": report([cohort(f"Cohort {n}", 4 * (n % 50 == 0)) for n in range(200)]),
}


@cache
def rendered(name: str) -> str:
    return render(REPORTS[name])


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_is_well_formed_and_asks_for_nothing(name: str) -> None:
    text = rendered(name)
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form", "base", "a", "use"}
    attributes = {attribute for _, found in page.tags for attribute in found}
    assert not {
        each for each in attributes if each.startswith("on") or "href" in each or each == "src"
    }
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import", text)


@pytest.mark.parametrize("name", REPORTS)
def test_text_from_outside_is_escaped(name: str) -> None:
    text = rendered(name)
    assert set(UNSAFE.findall(text)) <= {"\n"}
    assert "<script" not in text.lower()
    text.encode()


def test_the_verdict_is_first_and_the_accounting_last() -> None:
    text = render(report([cohort("Lapsed", 4), cohort("VIP")], with_uids=True))
    sections = [
        *(
            "1 of 2 cohorts needs attention.",
            "What needs attention",
            ">Cohorts</h2>",
            "Requests of <bdi>DEMO",
        ),
        *("Changes against their guards", "Rejected uids", "The first rejected uids"),
        *("Members over the last", ">Accounting</h2>"),
    ]
    body = text.partition("<body>")[2]
    places = [body.index(section) for section in sections]
    assert places == sorted(places)
    assert "cohortsync show run" in text
    assert "--allow Lapsed:removals=1200 --allow Lapsed:additions=1200" in text


def test_headings_table_headers_and_charts_are_described() -> None:
    page = Page(rendered("all kinds of ends"))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in {"row", "col"}
    assert page.tags[0] == ("html", {"lang": "en"})


def test_an_empty_period_has_a_page_that_says_so() -> None:
    text = Page(render(EMPTY)).text
    assert "Nothing ran in this period." in text
    assert "scheduler" in text


def test_a_page_holds_uids_only_if_it_was_asked_for(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        for with_uids, mode in ((False, 0o640), (True, 0o600)):
            path = tmp_path / f"{with_uids}.html"
            write_page(report([cohort("VIP")], "N", with_uids=with_uids), path)
            assert path.stat().st_mode & 0o777 == mode
            assert ("uid-N" in path.read_text(encoding="utf-8")) is with_uids
    finally:
        os.umask(mask)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["False.html", "True.html"]


def test_a_page_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be written"):
        write_page(EMPTY, tmp_path / "missing" / "page.html")
    (tmp_path / "page.html").mkdir()
    with pytest.raises(LedgerError, match="cannot be written"):
        write_page(EMPTY, tmp_path / "page.html")
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("seconds", [7, 900, 259_200])
@pytest.mark.parametrize("intervals", [1, 33])
def test_charts_of_any_period_are_small_and_labelled(seconds: int, intervals: int) -> None:
    drawn = str(requests_charts(workspace("W", seconds, intervals), "A chart"))
    assert drawn.count("<svg") == len(SIZES)
    assert drawn.count('class="major"') >= len(SIZES)
    assert len(drawn) < 120_000
    assert "chart-" not in drawn
