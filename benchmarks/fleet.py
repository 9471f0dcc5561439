"""A night of many workspaces on some hosts, in virtual time; docs/scale.md has its tables.

    python benchmarks/fleet.py [--workspaces N] [--hosts N ...] [--disk MB ...] [--deaths N ...]

The times of sending are those of the engine's own pacing and delivery in the simulator, what
processes take is `MEASURED`, and `benchmarks/simulator/fleet.py` describes the rest.
"""

import argparse
import random
from collections.abc import Iterator
from functools import cache
from itertools import product

from engine.pacing.settings import PacingSettings
from simulator.api import Api, every_limiter
from simulator.fleet import Costs, Host, Job, Night, Order, Step
from simulator.latency import jittered
from simulator.simulation import Scenario, simulate
from table import print_table

GOAL = "all workspaces right within an hour after the last export, although a host dies"
MEASURED = Costs(
    cpu_seconds={Step.PLAN: 0.64, Step.WRITE: 0.23},
    disk_mb={Step.PLAN: 145.0, Step.WRITE: 28.0},
    cores=2.0,
    sending_cores=0.012,
    memory_gb=1.0,
)
"""By `workspace_night.py` and `plan.py`, on two cores, with plan.memory_megabytes = 64."""
CHANGED = 0.02
"""Of the uids: 1 % come and 1 % go."""
CEILINGS = (300, 100)
"""Requests a minute; a workspace with the second one shares its ceiling with other programs."""
HEADINGS = (
    *("hosts", "disk MB/s", "deaths", "order", "night", "after exports"),
    *("processes", "sending", "CPU use", "core hours", "restarts"),
)


@cache
def send_seconds(requests: int, ceiling: int) -> float:
    """Return how long the engine takes for full requests, at so many a minute."""
    pacing = PacingSettings(ceiling, 60.0)
    api = Api(pacing, every_limiter(pacing, 7.0), jittered(random.Random(1), 0.02))
    return simulate(Scenario(uids=requests * uids_a_request(), pacing=pacing), api).seconds


@cache
def uids_a_request() -> int:
    """Return how many uids of 24 bytes a full request carries."""
    return Scenario(uids=1).full_batch.uid_count


def draw_jobs(asked: argparse.Namespace) -> Iterator[Job]:
    """Yield workspaces of different sizes, ceilings and times of their exports, always the same."""
    rng = random.Random(1)
    for number in range(asked.workspaces):
        size = rng.lognormvariate(-asked.spread * asked.spread / 2, asked.spread)
        ready, is_slow = rng.uniform(0, asked.arrivals * 60), rng.random() < asked.slow
        requests = 1.0
        while requests * uids_a_request() < asked.millions * size * 1e6 * CHANGED:
            requests *= 1.1  # Sizes within 10 % share a simulation.
        seconds = send_seconds(round(requests), CEILINGS[is_slow])
        yield Job(number, ready, asked.millions * size, seconds)


def clock(seconds: float) -> str:
    """Return hours and minutes."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"


def row(asked: argparse.Namespace, hosts: int, disk: float, deaths: int, order: Order) -> list[str]:
    """Simulate a night, and return the cells of its row."""
    night = Night(Host(asked.cores, asked.memory, disk, asked.slots), hosts, MEASURED, order)
    night.run(draw_jobs(asked), [60 * asked.dies * (each + 1) for each in range(deaths)])
    return [
        *(str(hosts), f"{disk:g}", str(deaths), order.value, clock(night.seconds)),
        *(clock(max(0.0, night.seconds - 60 * asked.arrivals)), str(night.most_running)),
        *(str(night.most_sending), f"{night.core_seconds / night.host_seconds / asked.cores:.0%}"),
        *(f"{night.core_seconds / 3600:.1f}", str(night.restarts)),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspaces", type=int, default=1_000)
    parser.add_argument("--millions", type=float, default=100.0, help="uids of each, on average")
    parser.add_argument("--spread", type=float, default=0.75, help="sigma of a lognormal size")
    parser.add_argument("--slow", type=float, default=0.1, help="share with a third of the ceiling")
    parser.add_argument("--arrivals", type=float, default=60.0, help="minutes for all exports")
    parser.add_argument("--hosts", type=int, nargs="+", default=(5, 10, 20))
    parser.add_argument("--cores", type=float, default=8.0, help="of a host")
    parser.add_argument("--memory", type=float, default=32.0, help="GB of a host")
    parser.add_argument("--disk", type=float, nargs="+", default=(250.0, 1_000.0), help="MB/s")
    parser.add_argument("--slots", type=int, default=16, help="processes of a host")
    parser.add_argument("--deaths", type=int, nargs="+", default=(0,), help="of hosts")
    parser.add_argument("--dies", type=float, default=20.0, help="minutes between deaths")
    parser.add_argument(
        "--order", choices=[each.value for each in Order], nargs="+", default=["longest first"]
    )
    asked = parser.parse_args()
    orders = [Order(each) for each in asked.order]
    print_table(
        f"{asked.workspaces:,} workspaces of {asked.millions:g} M uids, exports within "
        f"{asked.arrivals:g} minutes, hosts of {asked.cores:g} cores, {asked.memory:g} GB and "
        f"{asked.slots} processes",
        HEADINGS,
        [row(asked, *each) for each in product(asked.hosts, asked.disk, asked.deaths, orders)],
    )
    print(
        f"Goal: {GOAL}.\n"
        "Measured: in virtual time, by figures of one machine. After exports: from the last one to "
        "the end. Processes\nand sending: the most at a time. CPU use: of the hosts alive."
    )


if __name__ == "__main__":
    main()
