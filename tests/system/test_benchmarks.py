"""Every benchmark runs, small: what it measures here means nothing, and that it prints does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = {
    "packing": ["--rows", "20000", "--repeats", "1"],
    "engine_speed": ["--rows", "20000", "--repeats", "1", "--seconds", "0.1"],
    "memory": ["--rows", "20000"],
    "first_request": ["--rows", "20000", "--repeats", "1"],
    "cpu": ["--rows", "10000", "20000", "--repeats", "1"],
    "plan": ["--uids", "10000", "--memory", "512"],
    "simple": ["--uids", "10000"],
    "churn": ["--uids", "100000"],
    "fleet": ["--workspaces", "5", "--spread", "0", "--hosts", "2", "--deaths", "1"],
    "workspace_night": ["--cohorts", "1", "--uids", "5000"],
    "shared_ceiling": [
        *("--hosts", "3", "--seconds", "12"),
        *("--requests", "40", "--per-seconds", "4"),
    ],
    "sql_source": ["--rows", "20000", "--repeat", "1"],
    "sync_ceiling": ["--cohorts", "2", "--requests", "3", "--per-seconds", "2"],
}
STARTING = {"engine_speed", "memory", "cpu", "shared_ceiling", "sql_source", "simple"}
STARTING |= {"sync_ceiling", "workspace_night", "first_request"}
"""Those that start many processes, which is most of what they take."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in STARTING else ()) for name in SMALL],
)
def test_a_benchmark_prints_its_figures_and_how_it_measured(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *SMALL[name]],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nGoal: " in done.stdout or " Goal: " in done.stdout
    assert "\nMeasured: " in done.stdout
    running = f"cohortsync-{os.getuid()}"  # Where processes tell each other of themselves.
    left = [path for path in tmp_path.iterdir() if path.name != running]
    assert not left, "an export or a state folder was left behind"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "engines"), [("engines", ["local", "duckdb"]), ("evaluated_queries", ["duckdb"])]
)
def test_a_benchmark_of_engines_has_a_row_for_each(
    name: str, engines: list[str], tmp_path: Path
) -> None:
    program = ROOT / "benchmarks" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, program, "--uids", "20000", "--engine", *engines],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split()[0] for line in done.stdout.splitlines()[3:] if line} == set(engines)


def test_every_benchmark_is_tried_here() -> None:
    programs = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "\nGOAL" in path.read_text(encoding="utf-8")
    }
    assert programs == set(SMALL)
