"""The Cohort Sync API on loopback: its contract, its limits, and its bad days on request.

It is independent of the engine, imports nothing of it and counts for itself, so that what it says
of a run is a second opinion. `running` puts it into a test, `serve` behind the command.
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
