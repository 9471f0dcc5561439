"""Commands as processes that are forked from one that has imported everything: 0.3 s less each.

What they begin with is the same but for the interpreter's own start, for which `clean_room.ENGINE`
stands: the tests of its streams, signals and imports use that.
"""

import gc
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import engine

_CONTEXT = multiprocessing.get_context("forkserver")


class ForkedProcess:
    """A command under way, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        files: tuple[int, int, int],
    ) -> None:
        """`files` are the descriptors of its stdin, stdout and stderr; a `PIPE` is made."""
        _start_server()
        self.stdin: FileIO | None = None
        self.stdout: FileIO | None = None
        ends = [os.dup(each) if each >= 0 else each for each in files]
        if files[0] == subprocess.PIPE:
            ends[0], ours = os.pipe()
            self.stdin = FileIO(ours, "w")
        if files[1] == subprocess.PIPE:
            ours, ends[1] = os.pipe()
            self.stdout = FileIO(ours)
        if files[0] == subprocess.DEVNULL:
            ends[0] = os.open(os.devnull, os.O_RDONLY)
        theirs = [Connection(each) for each in ends]
        self._process = _CONTEXT.Process(
            target=_run, args=(theirs, tuple(arguments), dict(env), str(cwd))
        )
        self._process.start()
        for each in theirs:
            each.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("cohortsync", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # It has just ended.
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _start_server() -> None:
    """Start the process to fork from, unless it runs."""
    modules = {each.name for each in pkgutil.walk_packages(engine.__path__, "engine.")}
    # `make` does not install pyspark.
    _CONTEXT.set_forkserver_preload(sorted(modules - {"engine.planning.spark.process"}))
    # A process with threads must not be forked; and the engine reads the environment later.
    with patch.dict(os.environ, {"OPENBLAS_NUM_THREADS": "1", "SSL_CERT_FILE": os.devnull}):
        forkserver.ensure_running()


def _run(
    files: Sequence[Connection], arguments: Sequence[str], env: Mapping[str, str], cwd: str
) -> None:
    """Be the command: what the interpreter does before and after it."""
    gc.freeze()
    warnings.simplefilter("error")
    for number, each in enumerate(files):
        os.dup2(each.fileno(), number)
        each.close()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["cohortsync", *arguments]
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering, "utf-8", errors, closefd=False)  # noqa: SIM115 - as long as the process
        for number, mode, buffering, errors in (
            (0, "r", -1, "strict"),
            (1, "w", -1, "strict"),
            (2, "w", 1, "backslashreplace"),
        )
    )
    from engine.__main__ import main  # noqa: PLC0415 - the server has it already

    main()
