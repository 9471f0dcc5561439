"""How Spark is started, and why it did not start; nothing here needs its package."""

import socket
from collections.abc import Mapping

from engine.errors import CohortSyncError, IncompleteError, UsageError
from engine.source.lake.table import one_line
from engine.storage.settings import PlanningSettings

_CONNECT_SECONDS = 10.0
_LEAST_MEGABYTES = 1024
"""Of Java's heap; Spark refuses to start with less than half of it."""
_JAVA = "install one, such as openjdk-17-jre-headless of Debian, or set JAVA_HOME to its folder"
_MESSAGES = {
    "JAVA_HOME is not set": "finds no Java",
    "java: No such file or directory": "finds no Java",
    "UnsupportedClassVersionError": "needs a later Java",
    "Unrecognized option": "needs a later Java",
}
"""What the log of a driver that did not start has, and what that means."""


def configuration(master: str, settings: PlanningSettings) -> Mapping[str, str]:
    """Return what is not left to the file spark-defaults.conf of the user."""
    common = {
        "spark.master": master,
        "spark.app.name": "cohortsync",
        "spark.log.level": "ERROR",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if not master.startswith("local"):
        return common
    megabytes = max(settings.memory_megabytes, _LEAST_MEGABYTES)
    spill = {"spark.local.dir": settings.spill_dir} if settings.spill_dir else {}
    return (
        common
        | spill
        | {
            "spark.driver.memory": f"{megabytes}m",
            "spark.driver.host": "localhost",
            "spark.driver.bindAddress": "127.0.0.1",
        }
    )


def try_connecting(master: str) -> None:
    """Raise `IncompleteError` unless one of the masters accepts connections.

    Spark itself tries for a minute.
    """
    if not master.startswith("spark://"):
        return
    error: OSError | ValueError | None = None
    for each in master.removeprefix("spark://").split(","):
        host, _, port = each.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except (OSError, ValueError) as found:
            error = found
        else:
            return
    raise IncompleteError(
        f"no connection to Spark at {master}: {error}",
        hint="run the same command again once the cluster is up; nothing was sent",
    )


def not_started(master: str, error: Exception, said: str) -> CohortSyncError:
    """Return the error for a driver that did not start, and `said` this."""
    for sign, meaning in _MESSAGES.items():
        if sign in said:
            return UsageError(f"Spark {meaning}: it runs on Java 17 or later", hint=_JAVA)
    lines = [line for line in said.splitlines() if "ERROR" in line or "Exception" in line]
    # The first line of an error of Java is followed by its stack.
    detail = lines[-1] if lines else first_line(error)
    return IncompleteError(
        f"Spark at {master} did not start: {one_line(RuntimeError(detail))}",
        hint="its settings are those of spark-defaults.conf in SPARK_CONF_DIR",
    )


def first_line(error: Exception) -> str:
    """Return what an error of Spark says, without the stack of Java."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if lines[0].startswith("An error occurred while calling") and len(lines) > 1:
        return lines[1].removeprefix(": ")
    return lines[0]
