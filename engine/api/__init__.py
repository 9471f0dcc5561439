"""The interface for programs and for the command line: one method for each command.

    async with Engine.open("config.toml") as engine:
        result = await engine.push("export.csv", Cohort("vip", "VIP customers"), column="user_id")

Each method returns a result whose `to_dict()` is the JSON document of the command, or a list of
such results. A run returns its result even if it failed; a method raises a `CohortSyncError` (see
`engine.errors`) if it cannot begin. Messages name options as the command line does.

Any event loop can be used, but one for each engine. No signal handlers are installed: pull a
`StopSwitch` to stop a run and keep its result. A cancelled run writes its accounts first; the same
call resumes it.
"""

from engine.api.engine import Engine

__all__ = ["Engine"]
