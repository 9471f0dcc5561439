"""How near to the ceiling cohortsync runs in real time, and whether any kind of limit minds.

    python benchmarks/ceiling.py [--seconds N] [--models NAME ...] [--conditions NAME ...]

Full payloads at 300 requests a minute against each limiter that "300 a minute" may mean:
undisturbed, with answers that vary, with jitter on the way in, and kept from running half of the
time. Exits 1 when a goal is missed.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from table import print_table
from trial import ACCEPTED, Arrival, Client, read_log, report
from workload import CEILING_PER_SECOND, WORKSPACE, emulator, environment, export, push_command

CEILING = (300, 60.0)
UIDS_A_REQUEST = 3_700
"""A little more than what fits, so that no push ends before its time."""
START_SECONDS = 30.0
"""How long a push may take to send its first request."""
BURST_SECONDS = 0.02

MODELS: dict[str, Callable[[], tuple[str, ...]]] = {
    "sliding": lambda: ("--limiter", "sliding"),
    "fixed": lambda: ("--limiter", "fixed", "--phase-seconds", f"{random.uniform(0, 60):.3f}"),
    "bucket": lambda: ("--limiter", "bucket", "--burst", "300"),
    "gcra": lambda: ("--limiter", "gcra", "--burst", "5"),
}


@contextmanager
def spinning_neighbour(pids: Sequence[int]) -> Iterator[None]:
    """Put the processes on one core together with one that spins half of the time."""
    core = min(os.sched_getaffinity(0))
    for pid in pids:
        os.sched_setaffinity(pid, {core})
    spin = (
        "import random, time\n"
        "while True:\n"
        f"    end = time.monotonic() + {BURST_SECONDS}\n"
        "    while time.monotonic() < end: pass\n"
        f"    time.sleep(random.uniform(0.5, 1.5) * {BURST_SECONDS})\n"
    )
    with subprocess.Popen([sys.executable, "-c", spin]) as neighbour:
        os.sched_setaffinity(neighbour.pid, {core})
        try:
            yield
        finally:
            neighbour.kill()


@contextmanager
def stolen_core(pids: Sequence[int]) -> Iterator[None]:
    """Stop the processes for half of the time, as a hypervisor or a CPU quota would."""
    over = Event()

    def steal() -> None:
        while not over.is_set():
            _signal_all(pids, signal.SIGSTOP)
            time.sleep(BURST_SECONDS)
            _signal_all(pids, signal.SIGCONT)
            time.sleep(random.uniform(0.5, 1.5) * BURST_SECONDS)

    thief = Thread(target=steal)
    thief.start()
    try:
        yield
    finally:
        over.set()
        thief.join()


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a push has to live with, and what it has to reach all the same."""

    goal: float
    """Accepted requests as a share of the ceiling, at least."""
    flags: tuple[str, ...]
    """The emulator's."""
    disturb: Callable[[Sequence[int]], AbstractContextManager[None]]
    """Makes trouble for the processes named, for the length of a block."""


def _leave_alone(_: Sequence[int]) -> AbstractContextManager[None]:
    return nullcontext()


CONDITIONS = {
    "undisturbed": Condition(0.999, (), _leave_alone),
    "lognormal": Condition(0.998, ("--latency-ms", "80", "--latency-sigma", "0.5"), _leave_alone),
    "jitter": Condition(0.995, ("--jitter-ms", "300"), _leave_alone),
    "neighbour": Condition(0.995, (), spinning_neighbour),
    "stopped": Condition(0.995, (), stolen_core),
}


@dataclass(frozen=True, slots=True)
class Steady:
    """What the emulator counted of one push."""

    flags: tuple[str, ...]
    """Its limiter's."""
    requests: int
    """Of the whole run, as are the next two."""
    throttled: int
    most_in_window: int
    slack_seconds: float | None
    """What any 301 requests in a row took beyond the window, at least; None for fewer."""
    steady_accepted: int
    share: float
    """Accepted requests in the steady part, as a share of the ceiling."""


def measure(
    path: Path, condition: Condition, models: Sequence[str], seconds: float, settle: float
) -> list[Steady]:
    """Push under the limiters named side by side, for `settle` and then for `seconds`."""
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(TemporaryDirectory())) for _ in models]
        flags = [MODELS[model]() for model in models]
        clients, endpoints = [], []
        for seed, (folder, limiter) in enumerate(zip(folders, flags, strict=True)):
            more = ("--count-only", "--seed", str(seed), "--log", str(folder / "arrivals"))
            listening = stack.enter_context(emulator(*limiter, *condition.flags, *more))
            endpoints.append(listening.endpoint)
        for folder, endpoint in zip(folders, endpoints, strict=True):
            command = push_command(path, endpoint, folder, CEILING)
            clients.append(stack.enter_context(Client(command, folder, environment())))
        with condition.disturb([client.pid for client in clients]):
            _await_first_request([folder / "arrivals" for folder in folders])
            time.sleep(settle + seconds)
        for client in clients:
            if client.wait(0.0).exit_status is not None:
                raise SystemExit(f"a push ended before its time:\n{client.complaint}")
        return [
            _judge(limiter, read_log(folder / "arrivals"), report(endpoint), seconds, settle)
            for limiter, folder, endpoint in zip(flags, folders, endpoints, strict=True)
        ]


def _await_first_request(logs: Sequence[Path]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(log.stat().st_size for log in logs):
        if time.monotonic() > deadline:
            raise SystemExit("a push sent nothing")
        time.sleep(0.05)


def _judge(
    flags: tuple[str, ...],
    arrivals: Sequence[Arrival],
    counted: dict[str, Any],
    seconds: float,
    settle: float,
) -> Steady:
    requests, window = CEILING
    begin = arrivals[0].seconds + settle
    steady = [
        arrival
        for arrival in arrivals
        if arrival.status == ACCEPTED and begin <= arrival.seconds < begin + seconds
    ]
    spans = [
        last.seconds - first.seconds
        for first, last in zip(arrivals, arrivals[requests:], strict=False)
    ]
    return Steady(
        flags=flags,
        requests=counted["requests"]["received"],
        throttled=counted["requests"]["by_status"].get("429", 0),
        most_in_window=counted["workspaces"][WORKSPACE]["most_in_window"],
        slack_seconds=min(spans) - window if spans else None,
        steady_accepted=len(steady),
        share=_share([arrival.seconds for arrival in steady]),
    )


def _share(accepted: Sequence[float]) -> float:
    """Return the mean rate over whole windows of the ceiling's requests; 0 for less than one.

    A margin may be paid once a window, so parts of windows would tell too much or too little. The
    windows may begin at any request, because single arrivals are late by chance.
    """
    requests, window = CEILING
    windows = max(1, (len(accepted) - 1) // requests - 1)
    pairs = zip(accepted, accepted[windows * requests :], strict=False)
    spans = [last - first for first, last in pairs]
    return windows * window / mean(spans) if spans else 0.0


def _row(name: str, steady: Steady) -> list[str]:
    goal = CONDITIONS[name].goal
    return [
        name,
        " ".join(flag.removeprefix("--") for flag in steady.flags[1:]),
        str(steady.requests),
        str(steady.throttled),
        str(steady.most_in_window),
        "" if steady.slack_seconds is None else f"{steady.slack_seconds * 1000:.0f}",
        str(steady.steady_accepted),
        f"{steady.share:.2%}",
        f"{goal:.1%}",
        "yes" if _is_met(steady, goal) else "NO",
    ]


def _is_met(steady: Steady, goal: float) -> bool:
    return steady.share >= goal and not steady.throttled


def main() -> None:
    """Print the table; exit 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description="Accepted requests as a share of the ceiling.")
    parser.add_argument("--seconds", type=float, default=200.0, help="length of the steady part")
    parser.add_argument("--settle", type=float, default=60.0, help="what goes before it")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    arguments = parser.parse_args()
    duration = arguments.seconds + arguments.settle + START_SECONDS
    measured: list[tuple[str, Steady]] = []
    with export("csv", int(duration * CEILING_PER_SECOND * UIDS_A_REQUEST)) as path:
        for name in arguments.conditions:
            condition = CONDITIONS[name]
            runs = measure(path, condition, arguments.models, arguments.seconds, arguments.settle)
            measured += [(name, steady) for steady in runs]
    print_table(
        f"`cohortsync push` at {CEILING[0]} requests / {CEILING[1]:g} s, full payloads, as the "
        "emulator counted",
        (
            "condition",
            "limiter",
            "requests",
            "429s",
            "most in 60 s",
            "slack ms",
            "steady, accepted",
            "of the ceiling",
            "goal",
            "met",
        ),
        [_row(name, steady) for name, steady in measured],
    )
    print(
        "Goal: the share named, and not one 429. Rejected requests count against the limit.\n"
        "Measured: real time, the limiters side by side. The steady part is the "
        f"{arguments.seconds:g} s that begin {arguments.settle:g} s after the first\nrequest. The "
        f"share compares the mean time of {CEILING[0]} accepted requests, over one window or more "
        f"from each request, with {CEILING[1]:g} s.\n"
        "slack: what any 301 requests in a row took beyond 60 s, at least.\n"
        "lognormal: answers take 80 ms in the median (sigma 0.5). "
        "jitter: 0 to 300 ms, random, on the way in. neighbour: a process on the same core spins "
        f"{BURST_SECONDS * 1000:g} ms and sleeps\n10 to 30 ms, over and over. stopped: the push "
        f"gets SIGSTOP for {BURST_SECONDS * 1000:g} ms, then runs for 10 to 30 ms, over and over."
    )
    if not all(_is_met(steady, CONDITIONS[name].goal) for name, steady in measured):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
