"""When the cohort is right: a mirror beside a push, by how much changes a run, simulated.

    python benchmarks/churn.py [--uids N] [--plan-seconds S] [--picture FILE]

A churn of 1 % means that 1 % of the members go and as many come. The push sends the whole export,
and never removes anybody; the mirror sends what changed, and `--plan-seconds` goes before it (what
`benchmarks/plan.py` has measured for 100 million). Sending is the engine's own pacing and delivery
in virtual time, at 300 requests a minute.
"""

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from engine.pacing.settings import PacingSettings
from picture import COLOURS, STYLE, WIDTH
from simulated_run import clock_face
from simulator.api import Api, every_limiter
from simulator.latency import jittered
from simulator.simulation import Scenario, simulate
from table import print_table

GOAL = "2 minutes of sending where 1 % of 100 million changes, an hour and a half for a push"
CHURN = (0.001, 0.01, 0.1, 1.0)
CEILING = PacingSettings()


@dataclass(frozen=True, slots=True)
class Trial:
    """What one way takes at one churn."""

    uids: int
    requests: int
    seconds: float
    """Until the last answer, the plan included."""


def send(uids: int) -> Trial:
    """Deliver so many uids in virtual time."""
    rng = random.Random(1)
    api = Api(CEILING, every_limiter(CEILING, phase=7.0), jittered(rng, 0.02))
    execution = simulate(Scenario(uids=uids, pacing=CEILING), api)
    return Trial(uids, execution.sends.count, execution.seconds)


def main() -> None:
    """Print the table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uids", type=int, default=100_000_000)
    parser.add_argument("--plan-seconds", type=float, default=32.0)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    push = send(asked.uids)
    mirrors = {}
    for churn in CHURN:
        sent = send(round(2 * churn * asked.uids))
        mirrors[churn] = Trial(sent.uids, sent.requests, sent.seconds + asked.plan_seconds)
    print_table(
        f"Until a cohort of {asked.uids:,} is right, at 300 requests a minute",
        ("churn", "mirror sends", "requests", "mirror", "of it sending", "push", "push ÷ mirror"),
        [
            [
                f"{churn:.1%}",
                f"{mirror.uids:,}",
                f"{mirror.requests:,}",
                clock_face(mirror.seconds),
                clock_face(mirror.seconds - asked.plan_seconds),
                clock_face(push.seconds),
                f"{push.seconds / mirror.seconds:.1f}",
            ]
            for churn, mirror in mirrors.items()
        ],
    )
    if asked.picture:
        bars = [(f"mirror, {churn:.1%}", mirror.seconds) for churn, mirror in mirrors.items()]
        asked.picture.write_text(draw([*bars, ("push", push.seconds)]), encoding="utf-8")
    print(
        f"Goal: {GOAL}.\n"
        f"Measured: in virtual time, {asked.plan_seconds:g} s for the plan on top; where all "
        "changes, a mirror also removes, which no push does."
    )


_LEFT, _RIGHT, _BAR, _GAP = 130, 130, 26, 14


def draw(bars: Sequence[tuple[str, float]]) -> str:
    """Return horizontal bars, on a logarithmic scale of minutes, as an SVG for light and dark."""
    longest = max(seconds for _, seconds in bars)
    decades = math.ceil(math.log10(longest / 60))
    height = 40 + len(bars) * (_BAR + _GAP) + 26

    def x(seconds: float) -> float:
        return _LEFT + max(0.0, math.log10(seconds / 6) / (decades + 1)) * (WIDTH - _LEFT - _RIGHT)

    def parts() -> Iterator[str]:
        yield f'<text x="{_LEFT}" y="20">Until the cohort is right, minutes (logarithmic)</text>'
        for power in range(-1, decades + 1):
            at = x(60 * 10.0**power)
            yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="32" y2="{height - 30}"/>'
            label = f"{10.0**power:g}"
            yield f'<text x="{at:.1f}" y="{height - 12}" text-anchor="middle">{label}</text>'
        for number, (name, seconds) in enumerate(bars):
            top = 40 + number * (_BAR + _GAP)
            colour = COLOURS[0] if name == "push" else COLOURS[1]
            yield f'<text x="{_LEFT - 8}" y="{top + 18}" text-anchor="end">{escape(name)}</text>'
            yield (
                f'<rect x="{_LEFT}" y="{top}" width="{x(seconds) - _LEFT:.1f}" height="{_BAR}" '
                f'fill="{colour}"/>'
            )
            yield f'<text x="{x(seconds) + 8:.1f}" y="{top + 18}">{clock_face(seconds)}</text>'

    body = "\n".join(parts())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        f"<title>Mirror beside push, by churn</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


if __name__ == "__main__":
    main()
