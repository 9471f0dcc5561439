"""docs/scale.md: its tables are what the simulation prints, and its Job does what the page says."""

import re
import shlex
import subprocess
import sys

import pytest
from clean_room import API_KEY, ROOT
from emulated_api import Emulator
from nightly import CommandLine

from pages import fences

PAGE = ROOT / "docs" / "scale.md"
HOME = "/srv/cohortsync"


@pytest.mark.slow
def test_the_simulation_prints_the_tables_of_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    flags = re.findall(r"`(?:python benchmarks/fleet\.py|(--arrivals[^`]*))`", text)
    tables = [each for each in fences(PAGE, "text") if "hosts" in each]
    assert len(flags) == len(tables) == 2
    for arguments, table in zip(flags, tables, strict=True):
        done = subprocess.run(
            [sys.executable, "benchmarks/fleet.py", *shlex.split(arguments)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
        assert done.stdout.partition("\n\nGoal: ")[0] == table


@pytest.mark.recipes
def test_the_indexed_job_has_the_schema_of_kubernetes_and_syncs_a_workspace_an_index(
    cli: CommandLine, api: Emulator
) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    import yaml  # noqa: PLC0415 - kubernetes_validate brings it

    [text] = fences(PAGE, "yaml")
    cron_job = yaml.safe_load(text)
    for version in ("1.31", validate.latest_version()):
        validate.validate(cron_job, version, strict=True)
    job = cron_job["spec"]["jobTemplate"]["spec"]
    assert (job["completionMode"], job["template"]["spec"]["restartPolicy"]) == ("Indexed", "Never")
    assert {"podFailurePolicy", "backoffLimitPerIndex"} <= set(job)
    labels = job["template"]["metadata"]["labels"]
    pod = job["template"]["spec"]
    [near] = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert near["labelSelector"]["matchLabels"] == labels
    [container] = pod["containers"]
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert set(mounts) == {each["name"] for each in pod["volumes"]}
    [variable] = container["env"]
    key = mounts["keys"]["mountPath"]
    assert key == f"{variable['value']}/moengage_api_key"
    assert mounts["workspaces"]["mountPath"] == container["workingDir"] == HOME

    cli.variables["MOENGAGE_API_KEY"] = "not-this-one"
    for index in (0, 1):
        name = f"cohort-{index}"
        cli.configure(**{f"cohorts.{name}": {"name": name, "source": "export.txt"}})
        uids = cli.write("export.txt", 10 + index)
        place = mounts["workspaces"]["subPathExpr"].replace("$(JOB_COMPLETION_INDEX)", str(index))
        folder = cli.folder / place
        folder.mkdir(parents=True)
        for each in ("config.toml", "export.txt"):
            (cli.folder / each).rename(folder / each)
        credentials = folder / "credentials"
        credentials.mkdir()
        (credentials / "moengage_api_key").write_text(API_KEY)
        cli.variables[variable["name"]] = str(credentials)
        done = cli.run(*container["args"], folder=folder)
        assert done.status == 0, done.log
        assert api.members(name) == uids
        assert (folder / "state").is_dir()
