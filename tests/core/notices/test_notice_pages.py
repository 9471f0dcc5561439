"""docs/metrics.md, docs/notifications.md and docs/alerts.yml say what the code does."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from engine.config.loading import load_project
from engine.errors import ExitStatus
from engine.notices.follow_up import cohort_variables, inherited_variables, sync_variables
from engine.notices.messages import message_of
from engine.notices.metric_definitions import METRICS, Metric
from engine.notices.problems import CohortNews, CohortPast, NoticedCohort, find_problems
from engine.notices.settings import EVENTS, NotifySettings
from engine.planning.allowances import flags_to_lift
from engine.report.accounts import MirrorFigures, Standing
from pages import fences
from synced import ended, pushed, synced

DOCS = Path(__file__).parents[3] / "docs"
METRICS_PAGE = (DOCS / "metrics.md").read_text(encoding="utf-8")
NOTIFICATIONS_PAGE = (DOCS / "notifications.md").read_text(encoding="utf-8")
GROUPS = yaml.safe_load((DOCS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
SERIES = {each.name: each for each in METRICS} | {
    f"{each.name}{suffix}": each
    for each in METRICS
    if each.kind == "histogram"
    for suffix in ("_bucket", "_count", "_sum")
}


def rows(page: str) -> list[list[str]]:
    lines = re.findall(r"(?m)^\| (`.*) \|$", page)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def test_the_page_lists_each_metric_as_it_is() -> None:
    expected = [
        [f"`{m.name}`", m.kind, ", ".join(f"`{label}`" for label in m.labels), m.help]
        for m in METRICS
    ]
    assert rows(METRICS_PAGE) == expected


def test_the_page_lists_each_event() -> None:
    first = NOTIFICATIONS_PAGE.split("## Pings")[0]
    assert [row[0].strip("`") for row in rows(first)] == list(EVENTS)


def test_the_page_shows_a_message_as_it_is_sent() -> None:
    lapsed = NoticedCohort("lapsed", "Lapsed customers", "default", "P", "lapsed")
    vip = NoticedCohort("vip", "VIP customers", "default", "P", "vip")
    lift = flags_to_lift(["--allow removals=1750"], (), None, "lapsed")
    run = pushed(10, run="20261127-020004-1f3a").run
    assert run is not None
    figures = MirrorFigures(unchanged=1_949, add=Standing(51, 51), remove=Standing(100, 100))
    stopped = ended(
        ExitStatus.GUARDED,
        reason="removals: 1,750 removals of a cohort of 2,050 (85.4%); at most 205 are allowed",
        hint=f"look at the export; if it is right: {lift}",
        run=run,
    )
    mirrored = replace(run, accounts=replace(run.accounts, mirror=figures))
    settings = NotifySettings()
    message = message_of(
        [
            CohortNews(
                lapsed, find_problems(stopped, CohortPast(), settings, 0, None), result=stopped
            ),
            CohortNews(
                vip, (), frozenset({"guard"}), result=ended(ExitStatus.ACCEPTED, run=mirrored)
            ),
        ],
        settings,
    )
    assert message is not None
    [shown] = fences(DOCS / "notifications.md", "text")
    assert shown == f"{message.title}\n\n{message.body}"


def test_the_page_lists_each_variable_of_a_command() -> None:
    result = pushed(1)
    cohort, sync = cohort_variables(result, "sync"), sync_variables(synced(result))
    told = {row[0].strip("`"): row[1] for row in rows(NOTIFICATIONS_PAGE.split("## When")[1])}
    assert told == {
        name: "both" if name in sync and name in cohort else "sync" if name in sync else "cohort"
        for name in cohort | sync
    }


def test_the_page_lists_what_a_command_inherits() -> None:
    [sentence] = re.findall(
        r"A command inherits (.*?), and no other", NOTIFICATIONS_PAGE, re.DOTALL
    )
    named = set(re.findall(r"`([A-Z_*]+)`", sentence))
    environ = dict.fromkeys([*named, "LC_TIME", "MOENGAGE_API_KEY", "AWS_PROFILE"], "x")
    assert set(inherited_variables(environ)) - {"LC_TIME", "LC_*"} == named - {"LC_*"}


EXAMPLES = [
    text
    for page in (METRICS_PAGE, NOTIFICATIONS_PAGE)
    for text in re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_a_page_loads(tmp_path: Path, number: int) -> None:
    path = tmp_path / "config.toml"
    text = EXAMPLES[number] + '\n[workspace]\nid = "W"\ndata_center = "01"\n'
    path.write_text(text, encoding="utf-8")
    load_project(path, need_credentials=False, environ={})


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Return every selector of series in an expression; raises `ValueError` for an invalid one."""
    found: list[promql_parser.VectorSelector] = []

    def visit(part: object) -> None:
        match part:
            case promql_parser.VectorSelector():
                found.append(part)
            case promql_parser.MatrixSelector():
                visit(part.vector_selector)
            case promql_parser.Call():
                for each in part.args:
                    visit(each)
            case promql_parser.BinaryExpr():
                visit(part.lhs)
                visit(part.rhs)
            case promql_parser.AggregateExpr() | promql_parser.ParenExpr():
                visit(part.expr)
            case promql_parser.NumberLiteral():
                pass
            case _:
                raise TypeError(type(part))

    visit(promql_parser.parse(expression))
    return found


def labels_in(text: str) -> Iterator[str]:
    yield from re.findall(r"\$labels\.(\w+)", text)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_is_valid_and_names_metrics_that_exist(rule: dict[str, Any]) -> None:
    """Check what `promtool check rules` does, and that the metrics are ours."""
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "next"}
    if "for" in rule:
        assert promql_parser.parse_duration(rule["for"]) > timedelta()
    used: list[Metric] = []
    for selector in selectors(rule["expr"]):
        metric = SERIES[selector.name]
        used.append(metric)
        allowed = {*metric.labels, "le"} if metric.kind == "histogram" else {*metric.labels}
        assert {matcher.name for matcher in selector.matchers.matchers} <= allowed
    for text in rule["annotations"].values():
        assert text.count("{{") == text.count("}}") == len(re.findall(r"{{ \$[\w.]+ }}", text))
        assert set(labels_in(text)) <= set.union(*(set(metric.labels) for metric in used))


def test_each_alert_has_a_name_of_its_own_and_there_is_a_dead_man_alert() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    [silent] = [rule["expr"] for rule in RULES if "absent(" in rule["expr"]]
    assert "time() - max(cohortsync_sync_end_timestamp_seconds)" in silent


def test_the_check_finds_an_invalid_rule() -> None:
    with pytest.raises(ValueError, match=r"unclosed|unexpected|invalid"):
        selectors("sum(cohortsync_sync_exit_status")
    [selector] = selectors("cohortsync_of_nobody > 1")
    assert selector.name not in SERIES
