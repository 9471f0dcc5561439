"""The comparisons with peers and with the ceiling run, small: that they print is what is tested."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RUNNING = {f"cohortsync-{os.getuid()}"}
"""Where processes tell each other of themselves."""


def run(name: str, arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *arguments.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
    )


def test_clients_are_compared_in_a_table_and_a_picture(tmp_path: Path) -> None:
    clients = "cohortsync naive careful curl"
    done = run(
        "peers",
        f"--uids 9000 --seconds 30 --only {clients} --side-by-side 2 --results {tmp_path}/results",
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    _, _, *rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    cells = {row[0]: row[1:] for row in ([c.strip() for c in r[1:-1].split("|")] for r in rows)}
    assert len(cells) == len(clients.split())
    for client in ("cohortsync", "careful script"):
        lost, end = cells[client][6:8]
        assert (lost, end) == ("0 (0.0%)", "exit 0")
    assert (tmp_path / "results" / "peers.md").read_text() == done.stdout.removesuffix("\n")
    picture = ET.parse(tmp_path / "results" / "ceiling.svg")  # noqa: S314  our own
    lines = picture.findall(".//{http://www.w3.org/2000/svg}polyline")
    installed = [name for name, row in cells.items() if row[0] != "not installed"]
    assert len(lines) == 2 * len(installed)
    assert {path.name for path in tmp_path.iterdir()} - RUNNING == {"results"}


def test_each_condition_is_measured_against_its_goal(tmp_path: Path) -> None:
    done = run("ceiling", "--seconds 1 --settle 0.5 --models gcra", tmp_path)
    assert done.returncode in {0, 1}  # whether a goal is met in a second says nothing
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines()[3:8]]
    conditions = ["undisturbed", "lognormal", "jitter", "neighbour", "stopped"]
    assert [row[0] for row in rows] == conditions
    assert {row[-1] for row in rows} <= {"yes", "NO"}
    assert not {path.name for path in tmp_path.iterdir()} - RUNNING
