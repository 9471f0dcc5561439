"""How long a request is under way, and its answer: models of the network and of a slow API."""

import math
import random
from collections.abc import Callable
from typing import NamedTuple


class Trip(NamedTuple):
    """One request's time under way, in seconds."""

    way_in: float
    """From the head's leaving to when the API counts the request."""
    way_back: float
    """From there to the end of the answer: the API's own work, and the way back."""


Latency = Callable[[float], Trip]
"""The trip of a request that leaves at a time; asked once a request, in the order they leave."""


def steady(seconds: float = 0.1) -> Latency:
    """Every round trip takes the same."""
    trip = Trip(seconds / 2, seconds / 2)
    return lambda _: trip


def jittered(dice: random.Random, spread: float, seconds: float = 0.1) -> Latency:
    """Add up to `spread` seconds to the way in, each as likely as the other."""
    return lambda _: Trip(seconds / 2 + dice.uniform(0, spread), seconds / 2)


def drifting(
    dice: random.Random, *, least: float, most: float, period: float, spread: float
) -> Latency:
    """Swing the round trip between `least` and `most` once a `period`, jitter on top of it."""

    def trip(at: float) -> Trip:
        swing = (1 - math.cos(2 * math.pi * at / period)) / 2
        half = (least + (most - least) * swing) / 2
        return Trip(half + dice.uniform(0, spread), half)

    return trip


def slow_between(start: float, end: float, slow: Latency, otherwise: Latency) -> Latency:
    """Take `slow` for what leaves from `start` until `end`."""
    return lambda at: (slow if start <= at < end else otherwise)(at)
