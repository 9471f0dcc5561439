"""An emulator of the Cohort Sync API on loopback: its contract, its limits and, on request, faults.

It does not import the engine and has its own counts, so that its report on a run is independent.
`running` starts it in a test, `serve` for the command.
"""

from engine.emulator.application import Emulator
from engine.emulator.errors import EmulatorError
from engine.emulator.faults import FaultKind, FaultSettings, FaultShare, PlannedFault
from engine.emulator.files import read_plan, read_uids
from engine.emulator.limiters import LimiterModel, LimitSettings, RetryAfter
from engine.emulator.notation import parse_planned, parse_share
from engine.emulator.server import RunningEmulator, running, serve
from engine.emulator.settings import DEMO_WORKSPACES, EmulatorSettings

__all__ = [
    "DEMO_WORKSPACES",
    "Emulator",
    "EmulatorError",
    "EmulatorSettings",
    "FaultKind",
    "FaultSettings",
    "FaultShare",
    "LimitSettings",
    "LimiterModel",
    "PlannedFault",
    "RetryAfter",
    "RunningEmulator",
    "parse_planned",
    "parse_share",
    "read_plan",
    "read_uids",
    "running",
    "serve",
]
