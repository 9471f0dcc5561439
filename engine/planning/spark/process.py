"""Spark's driver of this process: a Java process that is started when it is first needed.

Spark allows one in a process. It ends with this one. What it says goes to a file without a name,
which is read only if it fails.
"""

import atexit
import logging
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Self

from engine.errors import UsageError
from engine.planning.spark.starting import configuration, not_started, try_connecting
from engine.source.sql.driver_errors import needing
from engine.storage.settings import PlanningSettings

with needing("spark", 'plan.engine = "spark"'):
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

ERRORS = (PySparkException, Py4JError)
"""What Spark raises; also if its process has ended."""


@dataclass
class SparkProcess:
    """The driver of one process, for one master."""

    master: str
    session: SparkSession
    _gateway: Any
    _log: IO[bytes]

    @classmethod
    def start(cls, master: str, settings: PlanningSettings) -> Self:
        """Start it. Raises `UsageError` if there is no Java that can run it.

        Raises `IncompleteError` if the cluster cannot be reached.
        """
        try_connecting(master)
        conf = SparkConf().setAll(list(configuration(master, settings).items()))
        log = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the process
        # It makes no folder where the user is.
        options = {"stdout": log, "stderr": log, "cwd": tempfile.gettempdir()}
        gateway = None
        try:
            gateway = launch_gateway(conf, options)
            _forget_ended_process()
            session = SparkSession(SparkContext(gateway=gateway, conf=conf))
        except (*ERRORS, OSError) as error:
            if gateway is not None:
                _end(gateway)
            log.seek(0)
            raise not_started(master, error, log.read().decode(errors="replace")) from error
        return cls(master, session, gateway, log)

    @property
    def is_alive(self) -> bool:
        """Return whether Java still runs."""
        return self._gateway.proc.poll() is None

    def set_group(self, group: str) -> None:
        """Let `cancel` end the jobs that this thread starts from now on."""
        self.session.sparkContext.setJobGroup(group, "cohortsync")

    def cancel(self, group: str) -> None:
        """End the jobs of a group that run now."""
        with suppress(*ERRORS):
            self.session.sparkContext.cancelJobGroup(group)

    def close(self) -> None:
        """End Java."""
        with suppress(*ERRORS, OSError):
            self.session.stop()
        _end(self._gateway)
        self._log.close()


class _Processes:
    """The driver of this process, if it was started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: SparkProcess | None = None

    def get(self, master: str, settings: PlanningSettings) -> SparkProcess:
        """Return the driver; raises as `SparkProcess.start`."""
        with self._lock:
            if self._started is None or not self._started.is_alive:
                _quieten()
                self._started = SparkProcess.start(master, settings)
                atexit.register(self._started.close)
            if self._started.master != master:
                raise UsageError(
                    f"this process uses Spark at {self._started.master}, and cannot use {master}",
                    hint="sync cohorts of different clusters in processes of their own",
                )
            return self._started


PROCESSES = _Processes()


def _forget_ended_process() -> None:
    """Let a new driver take the place of one that has ended."""
    with suppress(*ERRORS, OSError):
        if SparkContext._active_spark_context is not None:  # noqa: SLF001 - see below
            SparkContext._active_spark_context.stop()  # noqa: SLF001 - see below
    SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001 - PySpark has no other way
    SparkSession._instantiatedSession = None  # noqa: SLF001 - see above


def _end(gateway: Any) -> None:  # noqa: ANN401 - py4j ships no types
    with suppress(*ERRORS, OSError):
        gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.terminate()
    gateway.proc.wait()


def _quieten() -> None:
    """Keep PySpark and py4j from logging each error to stderr, with the stack of Java."""
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name).disabled = True
    logging.getLogger().addFilter(lambda record: record.module != "java_gateway")
