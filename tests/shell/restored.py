"""Backs up and restores the state folder of pushes."""

import asyncio
from pathlib import Path

from resting_clock import RestingClock
from whole_push import Pushes

from engine.config.loading import Project
from engine.planning.allowances import Allowance, Guard
from engine.report.state import Restored
from engine.runs.backup import backup
from engine.runs.restore import restore

LIFT = {"allowances": [Allowance(Guard.RESTORED)], "reason": "the lists since are adopted"}


def back_up(pushes: Pushes, folder: Path) -> None:
    asyncio.run(backup(pushes.state, folder, RestingClock(pushes.machine)))


def put_back(pushes: Pushes, folder: Path) -> Restored:
    project = Project(None, {"default": pushes.config()}, {}, ())
    return asyncio.run(restore(project, folder, RestingClock(pushes.machine)))
