"""The recipes for Airflow run in a real Airflow, which has an environment of its own."""

import os
import subprocess
from pathlib import Path

import pytest
from clean_room import ROOT, environment
from emulated_api import Emulator
from nightly import CommandLine

from pages import fences

PYTHON = os.environ.get("AIRFLOW_PYTHON", "")
"""The interpreter of an environment with Airflow and this package, which `make airflow` makes."""

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(not PYTHON, reason="`make airflow` installs Airflow and names it"),
]


@pytest.fixture
def airflow_home(cli: CommandLine) -> None:
    """Make an Airflow with the DAGs of the pages, for the folder of `cli`."""
    home = cli.folder / "airflow"
    (home / "dags").mkdir(parents=True)
    for page in ("nightly-recipes", "scale"):
        [program] = fences(ROOT / "docs" / f"{page}.md", "python")
        program = program.replace("/srv/cohortsync", str(cli.folder))
        (home / "dags" / f"{page}_dag.py").write_text(program)
    cli.variables |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    airflow(cli, "db", "migrate")
    airflow(cli, "dags", "reserialize")


def airflow(cli: CommandLine, *words: str) -> str:
    """Run a command of Airflow, and return what it wrote."""
    done = subprocess.run(
        [str(Path(PYTHON).absolute()), "-m", "airflow", *words],
        cwd=cli.folder,
        env=environment(cli.folder, **cli.variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    output = done.stdout + done.stderr
    is_test = words[:2] == ("dags", "test")  # Its status is the task's.
    assert done.returncode == 0 or is_test, output[-3000:]
    return output


@pytest.mark.usefixtures("airflow_home")
def test_the_dag_syncs_the_cohorts_and_fails_if_a_guard_stops_one(
    cli: CommandLine, api: Emulator
) -> None:
    cohort = {"name": "VIP customers", "source": "vip.txt"}
    cli.configure(**{"cohorts.vip": cohort})
    uids = cli.write("vip.txt", 50)
    done = airflow(cli, "dags", "test", "cohortsync")
    assert "vip: finished, done" in done
    assert "new_state=success" in done
    assert api.members("vip") == uids

    cli.configure(**{"cohorts.vip": cohort}, guards={"expected_size": [100, 200]})
    cli.write("vip.txt", 49)
    failed = airflow(cli, "dags", "test", "cohortsync")
    assert "AirflowFailException: exit status 4, see above" in failed
    assert "new_state=failed" in failed
    assert api.members("vip") == uids


@pytest.mark.usefixtures("airflow_home")
def test_a_mapped_task_syncs_each_workspace_and_one_that_fails_leaves_the_others_alone(
    cli: CommandLine, api: Emulator
) -> None:
    def prepare(name: str, uids: int) -> set[str]:
        folder = cli.folder / "workspaces" / name
        folder.mkdir(parents=True, exist_ok=True)
        table = {"name": name, "source": "export.txt"}
        cli.configure(**{f"cohorts.{name}": table}, guards={"expected_size": [10, 100]})
        found = cli.write("export.txt", uids)
        for each in ("config.toml", "export.txt"):
            (cli.folder / each).replace(folder / each)
        return found

    prepare("a", 9)
    uids = prepare("b", 20)
    failed = airflow(cli, "dags", "test", "cohortsync_volume_0")
    assert "AirflowFailException: exit status 4, see above" in failed
    assert (api.members("a"), api.members("b")) == (set(), uids)

    uids = prepare("a", 10)
    done = airflow(cli, "dags", "test", "cohortsync_volume_0")
    assert "exit status" not in done
    assert "new_state=success" in done
    assert api.members("a") == uids
