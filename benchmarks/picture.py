"""A picture of requests in a rolling window, one line a client, as an SVG for light and dark."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

COLOURS = ("#e5484d", "#2a8fd0", "#e08c00", "#9467d8", "#12a594", "#9c6b3f", "#8d8d8d", "#6b9e1f")
"""Of middling lightness, to be seen on white and on black."""
TICK_SECONDS = 30
WIDTH, LEFT, RIGHT = 920, 52, 210
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .grid { stroke: #24292f; stroke-opacity: .15 }
  .ceiling { stroke: #24292f; stroke-dasharray: 6 4 }
  .client { fill: none; stroke-width: 1.8; stroke-linejoin: round }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .grid, .ceiling { stroke: #e6edf3 }
  }
"""


def rolling(times: Sequence[float], window: float) -> Iterator[tuple[int, int]]:
    """Yield each second from the first request on, and the most in any window that ends in it.

    `times` ascend; the last second is the last request's.
    """
    begin = times[0]
    counts: dict[int, int] = {}
    for index, time in enumerate(times):
        in_window = index + 1 - bisect_right(times, time - window)
        second = int(time - begin)
        counts[second] = max(in_window, counts.get(second, 0))
    for second in range(int(times[-1] - begin) + 1):
        end = begin + second + 1
        idle = bisect_right(times, end) - bisect_right(times, end - window)
        yield second, counts.get(second, idle)


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of the plane, and where on the picture it is shown."""

    top: int
    height: int
    seconds: float
    """The end of the axis, which starts at 0."""
    least: float
    most: float

    def x(self, seconds: float) -> float:
        """Return where a moment is."""
        return LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)

    def y(self, requests: float) -> float:
        """Return where a count is."""
        return self.top + (self.most - requests) / (self.most - self.least) * self.height

    def axes(self, title: str, every: int) -> Iterator[str]:
        """Draw the title, a line for each `every` requests, and the moments below."""
        right, bottom = WIDTH - RIGHT, self.top + self.height
        yield f'<text x="{LEFT}" y="{self.top - 10}">{escape(title)}</text>'
        for count in range(int(self.least), int(self.most) + 1, every):
            y = self.y(count)
            yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{count}</text>'
        for seconds in range(0, int(self.seconds) + 1, TICK_SECONDS):
            x = self.x(seconds)
            yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{seconds} s</text>'

    def ceiling(self, requests: int) -> str:
        """Draw the line that no client may pass."""
        y = self.y(requests)
        return f'<line class="ceiling" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'

    def clip(self, name: str) -> str:
        """Keep what is drawn with this name inside."""
        area = f'x="{LEFT}" y="{self.top}" width="{WIDTH - LEFT - RIGHT}" height="{self.height}"'
        return f'<clipPath id="{name}"><rect {area}/></clipPath>'

    def line(self, points: Iterable[tuple[int, int]], colour: str, name: str) -> str:
        """Draw one client."""
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return (
            f'<polyline class="client" stroke="{colour}" clip-path="url(#{name})" points="{path}"/>'
        )


def draw(clients: Mapping[str, Sequence[float]], requests: int, window: float) -> str:
    """Return the picture: the ceiling, and each client's arrivals, which ascend.

    The lower panel shows the strip of the upper one around the ceiling.
    """
    lines = {name: list(rolling(times, window)) for name, times in clients.items() if times}
    longest = max(window, *(points[-1][0] for points in lines.values()))
    seconds = ceil(longest / TICK_SECONDS) * TICK_SECONDS
    whole = Panel(34, 260, seconds, 0, requests * 2.1)
    near = Panel(364, 150, seconds, requests * 0.95, requests * 1.02)
    parts = [
        whole.clip("whole"),
        near.clip("near"),
        *whole.axes(f"Requests in the {window:g} s before, as the API counts", requests // 3),
        *near.axes("The same around the ceiling", max(1, requests // 60)),
        whole.ceiling(requests),
        near.ceiling(requests),
    ]
    left = WIDTH - RIGHT + 12
    parts.append(f'<text x="{left}" y="{whole.y(requests) + 4:.1f}">ceiling: {requests}</text>')
    for number, (name, points) in reversed(list(enumerate(lines.items()))):  # the first on top
        colour = COLOURS[number % len(COLOURS)]
        parts += [whole.line(points, colour, "whole"), near.line(points, colour, "near")]
        y = near.top + 8 + 20 * number
        parts.append(
            f'<line x1="{left}" x2="{left + 22}" y1="{y}" y2="{y}" stroke="{colour}" '
            'stroke-width="3"/>'
        )
        parts.append(f'<text x="{left + 30}" y="{y + 4}">{escape(name)}</text>')
    height = near.top + near.height + 30
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        f"<title>Requests in a rolling window, by client</title>\n<style>{STYLE}</style>\n"
        f"{body}\n</svg>\n"
    )
