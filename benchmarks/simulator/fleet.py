"""A night of many workspaces on some hosts: a process each, which plans, sends and writes.

Planning and writing take processor and disk, which the processes of a host share evenly; sending
takes its time and little else. A process that dies with its host begins anew on another one: it
plans again, and sends what the ledger does not know to be accepted.
"""

import heapq
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Step(Enum):
    """What a process does, in this order."""

    PLAN = 0
    SEND = 1
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Costs:
    """What a process takes."""

    cpu_seconds: dict[Step, float]
    """For a million uids that are compared."""
    disk_mb: dict[Step, float]
    """Read and written, for a million uids that are compared."""
    cores: float
    """The most that one process uses."""
    sending_cores: float
    """Used by one process that sends."""
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Host:
    """What each host of a fleet has."""

    cores: float
    memory_gb: float
    disk_mb: float
    """Read and written in a second."""
    slots: int
    """The most processes at a time, if there is memory for them."""

    def processes(self, costs: Costs) -> int:
        """Return how many processes fit."""
        return max(1, min(self.slots, int(self.memory_gb / costs.memory_gb)))


class Order(Enum):
    """Which of the workspaces whose exports are there is next, and where."""

    FIRST_COME = "first come"
    LONGEST_FIRST = "longest first"
    PINNED = "longest first, pinned"
    """Each host has the volume of its own workspaces; a dead host's go to another one."""


@dataclass(slots=True, eq=False)
class Job:
    """The night of one workspace."""

    number: int
    ready: float
    """When its exports are there, in seconds."""
    millions: float
    """Uids of all its cohorts."""
    send_seconds: float
    step: Step = Step.PLAN
    left: float = 1.0
    """Of the step, as a share."""
    unsent: float = 1.0
    """Of what changed, as a share; a death of the host does not change it."""

    def rank(self, order: Order) -> tuple[float, int]:
        """Return what is least for the job that is next."""
        if order is Order.FIRST_COME:
            return self.ready, self.number
        return -self.millions - self.unsent * self.send_seconds, self.number


@dataclass(slots=True)
class Night:
    """A simulation, and what it came to."""

    host: Host
    hosts: int
    costs: Costs
    order: Order
    recovery_seconds: float = 420.0
    """From the death of a host until another one has its volumes."""
    seconds: float = 0.0
    core_seconds: float = 0.0
    host_seconds: float = 0.0
    """Of all hosts that were alive."""
    most_running: int = 0
    most_sending: int = 0
    restarts: int = 0
    _running: dict[int, list[Job]] = field(default_factory=dict)
    _coming: list[tuple[float, int, Job]] = field(default_factory=list)
    _waiting: list[tuple[tuple[float, int], Job]] = field(default_factory=list)
    _homes: list[int] = field(default_factory=list)

    def run(self, jobs: Iterable[Job], deaths: Sequence[float] = ()) -> None:
        """Run all jobs to their end; the busiest host dies at each of `deaths`, in seconds.

        Raises ValueError if no host would be left.
        """
        if len(deaths) >= self.hosts:
            raise ValueError("a host has to remain")
        self._running = {number: [] for number in range(self.hosts)}
        self._homes = list(self._running)
        self._coming = [(job.ready, job.number, job) for job in jobs]
        heapq.heapify(self._coming)
        due = sorted(deaths)
        while self._coming or self._waiting or any(self._running.values()):
            self._start()
            paces = {
                job: pace for each in self._running.values() for job, pace in self._paces(each)
            }
            ends = [self.seconds + job.left / pace for job, pace in paces.items()]
            self._pass(min([*ends, *due[:1], *(each[0] for each in self._coming[:1])]), paces)
            if due and self.seconds >= due[0]:
                del due[0]
                self._die()

    def _start(self) -> None:
        while self._coming and self._coming[0][0] <= self.seconds:
            job = heapq.heappop(self._coming)[2]
            insort(self._waiting, (job.rank(self.order), job))
        room = self.host.processes(self.costs)
        for entry in self._waiting.copy():
            is_pinned = self.order is Order.PINNED
            hosts = [self._homes[entry[1].number % self.hosts]] if is_pinned else self._running
            number = min(hosts, key=self._load)
            if self._load(number) < room:
                self._waiting.remove(entry)
                self._running[number].append(entry[1])
            elif not is_pinned:
                break
        running = [job for each in self._running.values() for job in each]
        self.most_running = max(self.most_running, len(running))
        sending = sum(job.step is Step.SEND for job in running)
        self.most_sending = max(self.most_sending, sending)

    def _load(self, number: int) -> int:
        return len(self._running[number])

    def _paces(self, running: Sequence[Job]) -> Iterable[tuple[Job, float]]:
        """Yield the share of its step that each job of a host does in a second."""
        busy = max(1, sum(job.step is not Step.SEND for job in running))
        cores = self.host.cores - self.costs.sending_cores * (len(running) - busy)
        share, disk = min(self.costs.cores, cores / busy), self.host.disk_mb / busy
        for job in running:
            if job.step is Step.SEND:
                yield job, 1 / job.send_seconds
            else:
                cpu, moved = self.costs.cpu_seconds[job.step], self.costs.disk_mb[job.step]
                yield job, 1 / (job.millions * max(cpu / share, moved / disk))

    def _pass(self, until: float, paces: dict[Job, float]) -> None:
        passed, self.seconds = until - self.seconds, until
        self.host_seconds += passed * len(self._running)
        for job, pace in paces.items():
            done = min(passed * pace, job.left)
            job.left -= done
            if job.step is Step.SEND:
                job.unsent = job.left
                self.core_seconds += passed * self.costs.sending_cores
            else:
                self.core_seconds += done * job.millions * self.costs.cpu_seconds[job.step]
            if job.left / pace < 1e-6:  # Seconds: what rounding leaves.
                self._next_step(job)

    def _next_step(self, job: Job) -> None:
        if job.step is Step.WRITE:
            next(each for each in self._running.values() if job in each).remove(job)
            return
        job.step = Step(job.step.value + 1)
        job.left = job.unsent if job.step is Step.SEND else 1.0

    def _die(self) -> None:
        number = max(self._running, key=self._load)
        dead = self._running.pop(number)
        other = min(self._running, key=self._load)
        self._homes = [other if each == number else each for each in self._homes]
        self.restarts += len(dead)
        for job in dead:
            job.step, job.left = Step.PLAN, 1.0
            heapq.heappush(self._coming, (self.seconds + self.recovery_seconds, job.number, job))
