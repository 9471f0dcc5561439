"""Renders a report on a period as an HTML page, and writes it to a file."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from engine import __version__
from engine.model.foreign_text import printable
from engine.page.charts import latency_charts, requests_charts, sparkline
from engine.page.settings import ReportSettings
from engine.report import formats
from engine.report.period import CohortPeriod, Level, MemberHistory, PeriodReport
from engine.report.period_reading import MEMBER_DAYS, report_on
from engine.report.requests import PERCENTILES, WorkspacePeriod
from engine.storage.files import new_file

_LEVELS = {
    Level.EMPTY: "nothing ran",
    Level.OK: "all well",
    Level.ATTENTION: "needs attention",
    Level.FAILED: "failed",
}
_NEAR = 0.8
"""The share of a guard's limit from which it is shown as near."""
_MOST_GUARDS = 30
"""The number of guards that are shown."""
_GUARDS = ("removals", "additions")
_LONGEST_TEXT = 120


def render(report: PeriodReport) -> str:
    """Return the page: one HTML document without scripts, which makes no request."""
    workspaces = {(each.target, each.workspace) for each in report.cohorts}
    page: str = _template().render(
        report=report,
        many_workspaces=len(workspaces) > 1,
        guarded=_guarded(report),
        most_guards=_MOST_GUARDS,
        zone=formats.zone(report.until_utc_ns),
        version=__version__,
    )
    return page


def write_page(report: PeriodReport, path: Path) -> None:
    """Write the page to `path`, atomically; only its owner may read it if it holds uids.

    Raises as `new_file` does.
    """
    content = render(report).encode()
    with new_file(path) as file:
        os.fchmod(file.fileno(), 0o600 if report.rejected_uids is not None else _usual_mode())
        file.write(content)


def write_configured_page(settings: ReportSettings, state: Path, now_utc_ns: int) -> Path | None:
    """Write the page that the configuration asks for after each sync; return its path.

    Returns None if it asks for none. `state` is the state folder. Raises as `report_on` and
    `write_page` do.
    """
    if settings.html is None:
        return None
    since = now_utc_ns - round(settings.since_hours * 3600e9)
    path = Path(settings.html)
    write_page(report_on(state, since, now_utc_ns, with_uids=settings.with_uids), path)
    return path


def _usual_mode() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


class GuardRow(NamedTuple):
    """A cohort's changes of one kind against their guard."""

    cohort: CohortPeriod
    guard: str
    verdict: str
    planned: int | None
    """None in a plan of an older version, as the limit."""
    limit: int | None
    share: float | None
    """Of the limit; None without one."""

    @property
    def level(self) -> Level:
        """Whether it blocks, or comes near to that."""
        if self.verdict == "blocks":
            return Level.FAILED
        is_near = self.share is not None and self.share >= _NEAR
        return Level.ATTENTION if is_near or self.verdict != "passes" else Level.OK


def _guarded(report: PeriodReport) -> list[GuardRow]:
    """Return the changes that a guard limits, those nearest to the limit first."""
    rows = []
    for cohort in report.cohorts:
        for found in cohort.guards:
            count, limit = found.get("count"), found.get("limit")
            share = None if count is None or limit is None else count / max(limit, 1)
            row = GuardRow(cohort, found["guard"], found["verdict"], count, limit, share)
            if found["guard"] in _GUARDS and (share is not None or row.level is not Level.OK):
                rows.append(row)
    return sorted(rows, key=lambda row: -(row.share or 0))


def _template() -> Any:  # noqa: ANN401 - a template's `render` takes any values
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_safe,
    )
    environment.filters |= {"short": _short, "code": _code}
    environment.globals |= {
        "style": Markup(_resource("page.css")),  # noqa: S704 - our own file
        "signs": formats.SIGNS,
        "levels": _LEVELS,
        "answers": formats.ANSWERS,
        "losses": formats.LOSSES,
        "percentiles": PERCENTILES,
        "member_days": MEMBER_DAYS,
        "requests_charts": _requests_charts,
        "latency_charts": _latency_charts,
        "sparkline": _sparkline,
        "latency": _latency,
        **{each.__name__: each for each in _FORMATS},
    }
    return environment.from_string(_resource("page.html"))


_FORMATS = (
    *(formats.moment, formats.day, formats.duration, formats.age_of),
    *(formats.status_of, formats.summary_of, formats.reason_of),
    *(formats.attempts_in_words, formats.sums_of),
)


def _resource(name: str) -> str:
    return files("engine.page").joinpath(name).read_text(encoding="utf-8")


def _safe(value: object) -> object:
    """Escape what would change the direction of a line or be invisible; HTML is escaped later."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _short(text: str, longest: int = _LONGEST_TEXT) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _code(text: str) -> Markup:
    """Return a text whose parts in backticks are shown as code."""
    parts = printable(text).split("`")
    if len(parts) % 2 == 0:  # A backtick of a foreign text.
        return escape(printable(text))
    tags = (Markup("{}"), Markup("<code>{}</code>"))
    return Markup("").join(tags[number % 2].format(part) for number, part in enumerate(parts))


def _latency(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "unknown"
    seconds = milliseconds / 1000
    return formats.duration(seconds) if seconds >= 1 else f"{milliseconds:,} ms"


def _requests_charts(workspace: WorkspacePeriod) -> Markup:
    total = workspace.total
    names = formats.ANSWERS.items()
    counts = [
        f"{name}: {total.answers[answer]:,}" for answer, name in names if total.answers[answer]
    ]
    start = formats.moment(workspace.intervals_start_utc_ns)
    return requests_charts(
        workspace, f"Bar chart of the requests from {start}: {', '.join(counts)}"
    )


def _latency_charts(workspace: WorkspacePeriod) -> Markup:
    total = workspace.total
    median, most = (_latency(total.milliseconds(share)) for share in (0.5, 0.95))
    return latency_charts(
        workspace, f"Line chart of the latency: median {median}, 95 % within {most}"
    )


def _sparkline(history: MemberHistory) -> Markup:
    members = [each.members for each in history.counts]
    return sparkline(members, f"Line from {members[0]:,} to {members[-1]:,} members")
