"""A night of many workspaces in virtual time, by arithmetic, and what the death of a host costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.fleet import Costs, Host, Job, Night, Order, Step

COSTS = Costs(
    cpu_seconds={Step.PLAN: 6.0, Step.WRITE: 2.0},
    disk_mb={Step.PLAN: 100.0, Step.WRITE: 50.0},
    cores=2.0,
    sending_cores=0.0,
    memory_gb=1.0,
)
"""A million uids take 3 s to plan and 1 s to write, where there are two cores."""
HOST = Host(cores=2.0, memory_gb=8.0, disk_mb=1_000.0, slots=8)


def night(jobs, deaths=(), *, host=HOST, hosts=1, order=Order.FIRST_COME) -> Night:
    simulated = Night(host, hosts, COSTS, order, recovery_seconds=100.0)
    simulated.run(jobs, deaths)
    return simulated


def small(number: int, ready: float = 0.0, **how: float) -> Job:
    return Job(number, ready, **{"millions": 1.0, "send_seconds": 10.0, **how})


@pytest.mark.parametrize(
    ("jobs", "host", "seconds", "most"),
    [
        ([small(0)], HOST, 3 + 10 + 1, 1),
        ([small(0, ready=50)], HOST, 50 + 14, 1),
        ([small(0), small(1)], HOST, 6 + 10 + 2, 2),
        ([small(0), small(1)], Host(2, 1.5, 1_000, 8), 14 + 14, 1),
        ([small(0), small(1)], Host(2, 8, 1_000, 1), 14 + 14, 1),
        ([small(0), small(1)], Host(4, 8, 1_000, 8), 14, 2),
        ([small(0)], Host(2, 8, 10, 8), 10 + 10 + 5, 1),
        ([small(0), small(1)], Host(2, 8, 10, 8), 20 + 10 + 10, 2),
    ],
    ids=["alone", "later", "cores", "memory", "slots", "more cores", "disk", "shared disk"],
)
def test_a_night_takes_what_it_has_to(jobs, host, seconds, most) -> None:
    done = night(jobs, host=host)
    assert done.seconds == pytest.approx(seconds)
    assert done.most_running == most
    assert done.core_seconds == pytest.approx(8 * len(jobs))
    assert done.host_seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("dies", "seconds"),
    [
        (2.0, 102 + 14),  # Planned anew.
        (8.0, 108 + 3 + 5 + 1),  # Half was sent.
        (13.5, 113.5 + 3 + 1),  # All was.
    ],
)
def test_what_a_dead_host_has_sent_is_not_sent_again(dies: float, seconds: float) -> None:
    done = night([small(0)], [dies], hosts=2)
    assert (done.seconds, done.restarts) == (pytest.approx(seconds), 1)


def test_a_host_has_to_remain() -> None:
    with pytest.raises(ValueError, match="a host has to remain"):
        night([small(0)], [1.0], hosts=1)


def test_the_longest_first_ends_earlier() -> None:
    def jobs() -> list[Job]:
        return [small(number) for number in range(4)] + [small(4, send_seconds=40.0)]

    host = Host(2, 8, 1_000, 2)
    first_come, longest = (
        night(jobs(), host=host, order=order) for order in (Order.FIRST_COME, Order.LONGEST_FIRST)
    )
    assert longest.seconds < first_come.seconds


def test_a_pinned_job_waits_for_its_host_and_moves_only_if_it_dies() -> None:
    def jobs() -> list[Job]:
        return [small(0), small(2), small(4)]  # All on the first of two hosts.

    host = Host(2, 8, 1_000, 1)
    assert night(jobs(), host=host, hosts=2, order=Order.PINNED).seconds == pytest.approx(3 * 14)
    assert night(jobs(), host=host, hosts=2).seconds == pytest.approx(2 * 14)
    moved = night(jobs(), [1.0], host=host, hosts=2, order=Order.PINNED)
    assert moved.restarts == 1
    assert moved.seconds == pytest.approx(101 + 14)  # The others go on at once, on the other one.


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 10), st.floats(1, 100)), min_size=1),
    st.sampled_from(Order),
    st.integers(1, 3),
    st.lists(st.floats(0, 300), max_size=2),
)
def test_every_night_ends_with_all_work_done(drawn, order, slots, deaths) -> None:
    host = Host(2.0, 8.0, 1_000.0, slots)
    jobs = [Job(number, *each) for number, each in enumerate(drawn)]
    done = night(jobs, deaths, host=host, hosts=3, order=order)
    needed = 8 * sum(job.millions for job in jobs)
    assert all((job.step, job.left) == (Step.WRITE, pytest.approx(0, abs=1e-5)) for job in jobs)
    assert done.core_seconds >= needed - 1e-3
    assert done.restarts or done.core_seconds == pytest.approx(needed, abs=1e-3)
    assert done.core_seconds <= done.host_seconds * host.cores + 1e-3
    alone = max(job.ready + 4 * job.millions + job.send_seconds for job in jobs)
    assert done.seconds >= alone - 1e-3
    assert done.most_running <= 3 * slots
