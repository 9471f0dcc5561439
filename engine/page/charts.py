"""Charts as inline SVG: drawn by pygal, without its scripts, styles and ids.

The page's style sheet colors them by class, so that they follow its light and dark themes. A chart
over time is drawn twice, wide and narrow, and the style sheet shows one of the two.
"""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pygal
from markupsafe import Markup

from engine.model.time_of_day import local_time
from engine.report.formats import ANSWERS, day
from engine.report.requests import Answer, WorkspacePeriod

# pygal adds an import hook for its plugins. It is in an old form, which warns at later imports.
sys.meta_path[:] = [hook for hook in sys.meta_path if type(hook).__module__ != "pygal"]

_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Size:
    """One of the two sizes of a chart, in its own units."""

    name: str
    """The class by which the style sheet shows it."""
    width: int
    height: int
    most_intervals: int
    most_labels: int


SIZES = (Size("wide", 1040, 230, 96, 8), Size("narrow", 340, 210, 32, 4))


def requests_charts(workspace: WorkspacePeriod, description: str) -> Markup:
    """Draw the requests of each interval by their answers; the top line is the ceiling."""

    def draw(period: WorkspacePeriod, size: Size) -> Any:  # noqa: ANN401 - pygal has no types
        allowed = period.allowed_each
        most = max(allowed, *(interval.sent for interval in period.intervals))
        chart = pygal.StackedBar(
            **_options(period, size),
            range=(0, most * 1.02),
            y_labels=[
                {"value": 0, "label": "0"},
                {"value": allowed / 2, "label": f"{allowed / 2:,.0f}"},
                {"value": allowed, "label": f"{allowed:,.0f}"},
            ],
        )
        for answer in Answer:
            chart.add(
                answer.value,
                [
                    {"value": interval.answers[answer], "label": ANSWERS[answer]}
                    for interval in period.intervals
                ],
            )
        return chart

    return _both("requests", workspace, description, draw)


def latency_charts(workspace: WorkspacePeriod, description: str) -> Markup:
    """Draw the median and the 95th percentile of the latency of each interval."""

    def draw(period: WorkspacePeriod, size: Size) -> Any:  # noqa: ANN401 - pygal has no types
        lines = {
            name: [_seconds(interval.milliseconds(share)) for interval in period.intervals]
            for name, share in (("median", 0.5), ("95th percentile", 0.95))
        }
        most = max((value for values in lines.values() for value in values if value), default=1)
        top = _round_up(most)
        chart = pygal.Line(
            **_options(period, size),
            range=(0, top),
            y_labels=[
                {"value": part * top / 2, "label": f"{part * top / 2:g} s"} for part in range(3)
            ],
            dots_size=2,
            allow_interruptions=True,
        )
        for name, values in lines.items():
            chart.add(name, values)
        return chart

    return _both("latency", workspace, description, draw)


def sparkline(values: Sequence[int], description: str) -> Markup:
    """Draw a small line without axes. It is too simple for pygal, which takes 20 ms for each."""
    low, high = min(values), max(values)
    across = 116 / max(len(values) - 1, 1)
    up = 24 / (high - low) if high > low else 0
    start = 28 if up else 16
    points = [
        f"{2 + number * across:.1f},{start - up * (value - low):.1f}"
        for number, value in enumerate(values)
    ]
    if len(points) == 1:
        points.append(points[0].replace("2.0,", "118.0,", 1))
    return Markup(
        '<svg class="chart sparkline" viewBox="0 0 120 32" role="img" aria-label="{}">'
        '<polyline points="{}"/></svg>'
    ).format(description, " ".join(points))


_PLAIN = {
    "js": (),
    "show_legend": False,
    "no_prefix": True,
    "disable_xml_declaration": True,
    "x_label_rotation": 0,
}


def _options(period: WorkspacePeriod, size: Size) -> dict[str, Any]:
    labels = [_time_label(period, number) for number in range(len(period.intervals))]
    return {
        **_PLAIN,
        "width": size.width,
        "height": size.height,
        "margin": 2,
        "margin_top": 8,
        "margin_right": 16,
        "spacing": 8,
        "x_labels": labels,
        "x_labels_major": [labels[number] for number in _labelled(period, size.most_labels)],
        "show_minor_x_labels": False,
        "truncate_label": -1,
        "value_formatter": _number,
    }


def _labelled(period: WorkspacePeriod, most: int) -> list[int]:
    """Return the intervals to label: at most `most`, at round times of day if possible."""
    count, seconds = len(period.intervals), period.interval_seconds
    for step in _ROUND_SECONDS:
        if step % seconds == 0 and step * most >= count * seconds:
            first = period.intervals_start_utc_ns // 1_000_000_000
            offset = local_time(period.intervals_start_utc_ns).utcoffset() or timedelta()
            of_day = first + int(offset.total_seconds())
            found = [n for n in range(count) if (of_day + n * seconds) % step == 0]
            return found or [0]
    return list(range(0, count, -(-count // most)))


_ROUND_SECONDS = (
    *(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200),
    *(86_400, 172_800, 604_800),
)


def _time_label(period: WorkspacePeriod, number: int) -> str:
    utc_ns = period.intervals_start_utc_ns + number * period.interval_seconds * 1_000_000_000
    time = local_time(utc_ns)
    if period.interval_seconds >= _DAY_SECONDS:
        return day(utc_ns)
    text = f"{time:%H:%M}" if period.interval_seconds % 60 == 0 else f"{time:%H:%M:%S}"
    spans_days = len(period.intervals) * period.interval_seconds > _DAY_SECONDS
    return f"{day(utc_ns)} {text}" if spans_days else text


def _number(value: float) -> str:
    return (
        f"{value:,.3g}"
        if value < 1
        else f"{value:,.0f}"
        if value == int(value)
        else f"{value:,.1f}"
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _round_up(value: float) -> float:
    """Return the next value of 1, 2, 4 or 10 times a power of ten."""
    power = 0.001
    while power * 10 < value:
        power *= 10
    return next(round(step * power, 6) for step in (1, 2, 4, 10) if step * power >= value)


def _both(
    kind: str,
    workspace: WorkspacePeriod,
    description: str,
    draw: Callable[[WorkspacePeriod, Size], Any],
) -> Markup:
    charts = [
        _svg(draw(workspace.coarser(size.most_intervals), size), f"{kind} {size.name}", description)
        for size in SIZES
    ]
    return Markup("").join(charts)


def _svg(chart: Any, classes: str, description: str) -> Markup:  # noqa: ANN401 - pygal has no types
    """Return a chart as SVG that has only shapes and text, described for screen readers."""
    tree = chart.render_tree()
    for child in list(tree):
        if child.tag != "g":
            tree.remove(child)  # Scripts, styles, comments and pygal's title.
    tree.attrib.pop("id", None)
    tree.attrib |= {"class": f"chart {classes}", "role": "img", "aria-label": description}
    _simplify(tree)
    # `method="html"` would not close empty elements, which SVG in HTML needs.
    return Markup(ET.tostring(tree, encoding="unicode"))  # noqa: S704 - the serializer escapes


_FLOAT = re.compile(r"-?\d+\.\d+")
_KEPT = {"svg", "g", "path", "rect", "text", "circle", "title"}


def _simplify(node: ET.Element) -> None:
    """Remove what draws nothing; turn descriptions of values into tooltips."""
    for name, value in list(node.attrib.items()):
        if name == "style" or value == "":
            del node.attrib[name]
        elif name != "aria-label":
            node.attrib[name] = _FLOAT.sub(
                lambda found: f"{float(found[0]):.1f}".rstrip("0").rstrip("."), value
            )
    texts = {child.get("class", ""): child.text or "" for child in node if child.tag == "desc"}
    for child in list(node):
        if child.tag not in _KEPT or _draws_nothing(child):
            node.remove(child)
        else:
            _simplify(child)
            if child.tag == "g" and not len(child):
                node.remove(child)
    if texts and len(node):
        tooltip = ET.SubElement(node, "title")
        label = f" {texts['label']}" if "label" in texts else ""
        tooltip.text = f"{texts.get('x_label', '')}: {texts.get('value', '')}{label}"


def _draws_nothing(node: ET.Element) -> bool:
    """Return whether an element is a background, a tooltip of pygal's scripts, or has no height."""
    if node.tag == "title" or "tooltip-overlay" in node.get("class", ""):
        return True
    if node.tag != "rect":
        return False
    return "background" in node.get("class", "") or float(node.get("height", "1")) == 0
