"""cohortsync beside what people use today: the same uids, the same emulator, one client at a time.

    python benchmarks/peers.py [--uids N] [--seconds N] [--only PEER ...] [--side-by-side N]

Each client works three times: at 300 requests a minute in real time, for so many seconds at the
most, which shows how near to the ceiling it keeps; the same with answers that take 80 ms in the
median and vary; and with faults at 300 in 6 s to its end, which shows what it loses. The table and
the picture are written to `benchmarks/results` as well.
"""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from picture import draw
from trial import Arrival, Client, Ended, accepted_per_second, read_log, report
from workload import WORKSPACE, emulator, environment, export, push_command

REAL, COMPRESSED = (300, 60.0), (300, 6.0)
VARYING = ("--latency-ms", "80", "--latency-sigma", "0.5")
FAULTS = ("--fault", "500=0.03:0.5", "--fault", "reset=0.01:1")
PHYSICAL_BYTES = 131_072
"""The largest payload that the API can be meant to take."""
MEMBER_BYTES = len('{"uid":"0123456789abcdef01234567"},')
LONGEST_RUN_SECONDS = 600.0
IDLE_SECONDS = 15.0
"""A client that never ends by itself is done when nothing has come from it for so long."""
_PROGRAMS = Path(__file__).with_name("peers")

Ceiling = tuple[int, float]


def _program(name: str, *flags: str) -> Callable[[Path, str, Path, Ceiling], list[str]]:
    """Return what makes the command of a program under `peers/`."""

    def command(path: Path, endpoint: str, folder: Path, ceiling: Ceiling) -> list[str]:
        own = [flag.replace("FOLDER", str(folder)) for flag in flags]
        limits = ["--requests", str(ceiling[0]), "--per-seconds", str(ceiling[1])]
        return [sys.executable, str(_PROGRAMS / name), str(path), endpoint, *limits, *own]

    return command


def _is_installed(tool: str) -> bool:
    return shutil.which(tool) is not None


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to get uids into a cohort."""

    title: str
    command: Callable[[Path, str, Path, Ceiling], list[str]]
    """Of export, endpoint, a folder of its own, and the ceiling."""
    prepare: Callable[[Path, str, Path, Ceiling], list[str]] | None = None
    """A command that runs before, and is not measured."""
    is_there: Callable[[], bool] = lambda: True
    ends: bool = True
    """Whether it stops when it is done."""


def _syslog_ng(_path: Path, _endpoint: str, folder: Path, _ceiling: Ceiling) -> list[str]:
    files = {"cfgfile": folder / "syslog-ng.conf"}
    files |= {name: folder / f"syslog-ng.{name}" for name in ("pidfile", "control", "persist-file")}
    options = [f"--{name}={path}" for name, path in files.items()]
    return ["syslog-ng", "--foreground", "--no-caps", "--stderr", *options]


PEERS = {
    "cohortsync": Peer("cohortsync", push_command),
    "naive": Peer("naive script", _program("naive.py")),
    "naive-retry": Peer("naive, three tries", _program("naive.py", "--tries", "3")),
    "careful": Peer("careful script", _program("careful.py")),
    "curl": Peer(
        "curl --rate",
        lambda *given: ["curl", "--config", str(given[2] / "curlrc")],
        prepare=_program("curl.py", "--folder", "FOLDER"),
        is_there=partial(_is_installed, "curl"),
    ),
    "dlt": Peer(
        "dlt, custom destination",
        _program("dlt_pipeline.py", "--folder", "FOLDER"),
        is_there=lambda: importlib.util.find_spec("dlt") is not None,
    ),
    "syslog-ng": Peer(
        "syslog-ng http()",
        _syslog_ng,
        prepare=_program("syslog_ng.py", "--folder", "FOLDER"),
        is_there=partial(_is_installed, "syslog-ng"),
        ends=False,
    ),
}


class SentNothingError(Exception):
    """A client sent no request in its time, as one may that prepares everything first."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of one client, as the emulator and the kernel saw it."""

    ended: Ended
    arrivals: list[Arrival]
    counted: dict[str, Any]
    missing: int
    """Uids of the export that are not in the cohort."""

    @property
    def throttled(self) -> int:
        """Requests that were answered 429."""
        count: int = self.counted["requests"]["by_status"].get("429", 0)
        return count


def attempt(peer: Peer, path: Path, ceiling: Ceiling, flags: Sequence[str], limit: float) -> Trial:
    """Run a client against an emulator of its own until it is done, `limit` seconds at most."""
    with TemporaryDirectory(prefix="cohortsync-peer-") as name:
        folder = Path(name)
        log = folder / "arrivals"
        limits = ("--requests", str(ceiling[0]), "--per-seconds", str(ceiling[1]))
        with emulator("--limiter", "sliding", *limits, "--log", str(log), *flags) as listening:
            given = (path, listening.endpoint, folder, ceiling)
            if peer.prepare is not None:
                subprocess.run(peer.prepare(*given), check=True, env=_environment())
            with Client(peer.command(*given), folder, _environment()) as client:
                ended = client.wait(limit, lambda: not peer.ends and _is_idle(log))
            arrivals = read_log(log)
            if not arrivals:
                raise SentNothingError(f"{peer.title} sent nothing:\n{client.complaint}")
            compared = subprocess.run(
                [sys.executable, _PROGRAMS / "missing.py", path, listening.endpoint],
                check=True,
                capture_output=True,
                text=True,
                env=_environment(),
            )
            missing, extra = map(int, compared.stdout.split())
            if extra:
                raise SystemExit(f"{peer.title} sent {extra} uids that the export does not hold")
            return Trial(ended, arrivals, report(listening.endpoint), missing)


def _environment() -> dict[str, str]:
    return {**environment(), "RUNTIME__DLTHUB_TELEMETRY": "false"}


def _is_idle(log: Path) -> bool:
    return log.stat().st_size > 0 and time.time() - log.stat().st_mtime > IDLE_SECONDS


@dataclass(frozen=True, slots=True)
class Trials:
    """A client's runs."""

    peer: Peer
    uids: int
    paced: Trial
    varying: Trial
    faulty: Trial

    def row(self) -> list[str]:
        """Return the table's cells."""
        paced, faulty = self.paced, self.faulty
        counted = paced.counted
        received = counted["requests"]["received"]
        rate = accepted_per_second(paced.arrivals)
        accepted = max(1, counted["requests"]["accepted"])
        bytes_per_second = rate * counted["uids"]["applied"] / accepted * MEMBER_BYTES
        physical = REAL[0] / REAL[1] * PHYSICAL_BYTES
        return [
            self.peer.title,
            f"{rate / (REAL[0] / REAL[1]):.2%}",
            f"{accepted_per_second(self.varying.arrivals) / (REAL[0] / REAL[1]):.2%}",
            f"{paced.throttled:,} / {self.varying.throttled:,}",
            f"{counted['workspaces'][WORKSPACE]['most_in_window']:,}",
            f"{counted['bytes_received'] / received / PHYSICAL_BYTES:.1%}",
            f"{bytes_per_second / physical:.3f}",
            f"{faulty.missing:,} ({faulty.missing / self.uids:.1%})",
            self._end(),
            f"{faulty.throttled:,}",
            f"{faulty.ended.cpu_seconds / self.uids * 1e6:.1f}",
            f"{max(trial.ended.peak_bytes for trial in self._all) / 1e6:.0f}",
        ]

    @property
    def _all(self) -> tuple[Trial, ...]:
        return self.paced, self.varying, self.faulty

    def _end(self) -> str:
        if not self.peer.ends:
            return "never ends"
        status = self.faulty.ended.exit_status
        return f"stopped, {self.faulty.ended.seconds:.0f} s" if status is None else f"exit {status}"


HEADINGS = (
    "client",
    "accepted ÷ ceiling",
    "with varying answers",
    "429s",
    "most in any 60 s",
    "payload fill",
    "uids ÷ physical limit",
    "uids lost to faults",
    "its end",
    "429s then",
    "CPU s / M uids",
    "peak MB",
)


def markdown(rows: Sequence[Sequence[str]], notes: str) -> str:
    """Return a table and what there is to say about it."""
    lines = [HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{notes}\n"


def run(peer: Peer, path: Path, uids: int, seconds: float) -> Trials | None:
    """Let a client work in real time, twice, and then with faults; None if it sends nothing."""
    try:
        paced = attempt(peer, path, REAL, (), seconds)
        varying = attempt(peer, path, REAL, VARYING, seconds)
        faulty = attempt(peer, path, COMPRESSED, FAULTS, LONGEST_RUN_SECONDS)
    except SentNothingError as error:
        print(error, file=sys.stderr)
        return None
    return Trials(peer, uids, paced, varying, faulty)


def _notes(flags: str, uids: int, seconds: float) -> str:
    return (
        f"Measured by `python benchmarks/peers.py {flags}`: {uids:,} uids of 24 hex digits. First "
        f"in real time, {seconds:g} s at the most, under a sliding window of {REAL[0]} requests a "
        "minute, against which refused requests count too: of the n accepted requests, "
        "(n - 1) / (last - first), as a share of 300 a minute, by answers at once and by answers "
        "that take 80 ms in the median (lognormal, sigma 0.5); "
        "fill and uids as shares of 131,072 bytes 300 times a minute. Then to the end, at 300 "
        "requests in 6 s, with 3 % of 500s, half of them applied, and 1 % of resets after "
        "applying: the uids of the export that are not in the cohort when the client is done, and "
        "the CPU time of the whole run. curl's payload files are packed beforehand, which is not "
        "counted."
    )


def main() -> None:
    """Print the table, and write it and the picture."""
    parser = argparse.ArgumentParser(description="cohortsync beside its peers.")
    parser.add_argument("--uids", type=int, default=2_000_000, help="uids in the export")
    parser.add_argument("--seconds", type=float, default=180.0, help="longest run in real time")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--side-by-side", type=int, default=1, metavar="N", help="clients at once")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    given = parser.parse_args()
    chosen = [PEERS[name] for name in given.only]
    there = [peer for peer in chosen if peer.is_there()]
    with export("csv", given.uids) as path, ThreadPoolExecutor(given.side_by_side) as pool:
        done = list(pool.map(lambda peer: run(peer, path, given.uids, given.seconds), there))
    blanks = [""] * (len(HEADINGS) - 2)
    rows = [
        trials.row() if trials else [peer.title, "sent nothing", *blanks]
        for peer, trials in zip(there, done, strict=True)
    ]
    rows += [[peer.title, "not installed", *blanks] for peer in chosen if peer not in there]
    text = markdown(rows, _notes(" ".join(sys.argv[1:]), given.uids, given.seconds))
    given.results.mkdir(exist_ok=True)
    (given.results / "peers.md").write_text(text, encoding="utf-8")
    times = {each.peer.title: [at for at, _ in each.paced.arrivals] for each in done if each}
    (given.results / "ceiling.svg").write_text(draw(times, REAL[0], REAL[1]), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
