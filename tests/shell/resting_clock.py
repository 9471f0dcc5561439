"""The clock of a machine in virtual time between two processes."""

from whole_push import Machine

from engine.clock import Stamp
from virtual_time import BOOT_UTC_NS


class RestingClock:
    """Tells the time at which the next process begins."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def now(self) -> float:
        return self._machine.now_at_rest

    def stamp(self) -> Stamp:
        machine = self._machine
        boot_ns = round((machine.now_at_rest - machine.booted_at) * 1e9)
        utc_ns = BOOT_UTC_NS + round(machine.now_at_rest * 1e9)
        return Stamp(f"boot-{machine.boots}", boot_ns, utc_ns)
