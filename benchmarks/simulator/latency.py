"""How long a request and its answer take: models of the network and of a slow API."""

import math
import random
from collections.abc import Callable
from typing import NamedTuple


class Trip(NamedTuple):
    """The time of one request, in seconds."""

    to_arrival: float
    """From the sending of the head until the API counts the request."""
    from_arrival: float
    """From then to the end of the answer: the API's own work, and the transmission."""


Latency = Callable[[float], Trip]
"""The trip of a request sent at a time; called once a request, in the order of sending."""


def steady(seconds: float = 0.1) -> Latency:
    """Every round trip takes the same."""
    trip = Trip(seconds / 2, seconds / 2)
    return lambda _: trip


def jittered(rng: random.Random, spread: float, seconds: float = 0.1) -> Latency:
    """Add up to `spread` seconds before the arrival, uniformly distributed."""
    return lambda _: Trip(seconds / 2 + rng.uniform(0, spread), seconds / 2)


def lognormal(
    rng: random.Random, median: float, sigma: float = 0.5, way: float = 0.001, spread: float = 0.0
) -> Latency:
    """Answers that take a lognormal time from the arrival; `way` and up to `spread` before it."""
    return lambda _: Trip(way + rng.uniform(0, spread), median * math.exp(rng.gauss(0.0, sigma)))


def pareto(
    rng: random.Random, least: float, alpha: float = 1.5, longest: float = 30.0, back: float = 0.05
) -> Latency:
    """Arrivals that take a Pareto-distributed time, at most `longest`; then the answer `back`."""
    return lambda _: Trip(min(least * rng.paretovariate(alpha), longest), back)


def late_now_and_then(rng: random.Random, share: float, most: float, otherwise: Latency) -> Latency:
    """Add up to `most` seconds before the arrival to a `share` of the requests."""

    def trip(at: float) -> Trip:
        late = rng.uniform(0, most) if rng.random() < share else 0.0
        usual = otherwise(at)
        return Trip(usual.to_arrival + late, usual.from_arrival)

    return trip


def drifting(
    rng: random.Random, *, least: float, most: float, period: float, spread: float
) -> Latency:
    """Vary the round trip between `least` and `most` once a `period`, with jitter in addition."""

    def trip(at: float) -> Trip:
        swing = (1 - math.cos(2 * math.pi * at / period)) / 2
        half = (least + (most - least) * swing) / 2
        return Trip(half + rng.uniform(0, spread), half)

    return trip


def slow_between(start: float, end: float, slow: Latency, otherwise: Latency) -> Latency:
    """Use `slow` for requests sent from `start` until `end`."""
    return lambda at: (slow if start <= at < end else otherwise)(at)
