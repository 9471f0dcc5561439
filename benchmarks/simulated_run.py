"""A run in virtual time: 100 million uids through the engine's own pacing and delivery.

    python benchmarks/simulated_run.py [--uids N] [--uid-bytes N] [--requests N] [--per-seconds S]

Prints when it would be done, how much of the ceiling it used, the most requests in any window, what
each kind of limit would have refused, and the seconds that the simulation took.
"""

import argparse
import random
import time

from engine.pacing.settings import PacingSettings
from simulator.api import Api, every_limiter
from simulator.forecast import forecast
from simulator.latency import jittered
from simulator.simulation import Scenario, simulate


def main() -> None:
    """Simulate, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uids", type=int, default=100_000_000)
    parser.add_argument("--uid-bytes", type=int, default=24)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--per-seconds", type=float, default=60.0)
    parser.add_argument("--jitter-seconds", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    ceiling = PacingSettings(asked.requests, asked.per_seconds)
    rng = random.Random(asked.seed)
    api = Api(
        ceiling,
        every_limiter(ceiling, phase=rng.uniform(0, ceiling.per_seconds)),
        jittered(rng, asked.jitter_seconds),
    )
    scenario = Scenario(uids=asked.uids, uid_bytes=asked.uid_bytes, pacing=ceiling)
    began = time.perf_counter()
    run = simulate(scenario, api)
    took = time.perf_counter() - began

    uids_a_request = scenario.full_batch.uid_count
    expected = forecast(asked.uids, uids_a_request, ceiling)
    refused = ", ".join(f"{name} {count}" for name, count in api.refused.items())
    rows = {
        "uids": f"{asked.uids:,} of {asked.uid_bytes} bytes, {uids_a_request:,} a request",
        "done after": clock_face(run.seconds),
        "forecast": f"{clock_face(expected.least_seconds)} to {clock_face(expected.most_seconds)}",
        "requests": f"{run.sends.count:,}, {sum(run.outcomes.uids.values()):,} uids settled",
        "ceiling": f"{asked.requests} per {asked.per_seconds:g} s",
        "ceiling use": f"{run.ceiling_use(run.began, run.sends.accepted[-1]):.5f}",
        "most in any window": f"{run.sends.most_in_window} sent, {api.most_in_window} arrived",
        "429s": f"{api.answers[429]} (refused by {refused})",
        "seconds for real": f"{took:.1f}",
    }
    for name, figure in rows.items():
        print(f"{name:20} {figure}")


def clock_face(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min {rest:02} s"


if __name__ == "__main__":
    main()
