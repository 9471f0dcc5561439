"""A run as it is shown when it begins."""

from engine.model.cohort import Cohort
from engine.report.accounts import Ceiling
from engine.report.run_results import Opening

OPENING = Opening(
    target="EMULATOR 127.0.0.1:1",
    workspace="W",
    partner="p",
    cohort=Cohort("c", "C"),
    action="add",
    ceiling=Ceiling(300, 60.0),
    run="run-1",
    is_resumed=False,
    known_uids=0,
)
