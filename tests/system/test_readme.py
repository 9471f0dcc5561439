"""Every command in the README runs, against the emulator, with the files that it names."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from records import record

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shell_commands() -> list[str]:
    """Return the lines of the README's shell blocks, comments taken off."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def preparing_commands() -> list[str]:
    """Return those that make the files which other commands read."""
    others = ("make ", "cohortsync ", ". ", "export ")
    return [
        line
        for line in shell_commands()
        if not line.startswith(others) and "cohortsync" not in line
    ]


def recipe_commands() -> list[str]:
    """Return what the nightly recipes start: cron, systemd, Kubernetes, Airflow."""
    cron = re.findall(r"(?m)^\d.*&& /\S*/(cohortsync .*?) >>", README)
    systemd = re.findall(r"(?m)^ExecStart=/\S*/(cohortsync .*)$", README)
    kubernetes = [
        shlex.join(words.split(", ")) for words in re.findall(r"(?m)command: \[(.*)\]$", README)
    ]
    airflow = [
        shlex.join(re.findall(r'"([^"]+)"', block))
        for block in re.findall(r"command = \[(.*?)\]\n", README, flags=re.DOTALL)
    ]
    assert [len(found) for found in (cron, systemd, kubernetes, airflow)] == [3, 1, 1, 1]
    return systemd + kubernetes + airflow  # cron lines are run as cron does


@dataclass
class Place:
    """A folder as the README supposes it, and an environment with `cohortsync` on its PATH."""

    folder: Path
    environment: dict[str, str]

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serve(self, command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            shlex.split(command),
            cwd=self.folder,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("readme")
    binaries = tmp_path_factory.mktemp("bin")
    shim = binaries / "cohortsync"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m engine "$@"\n')
    shim.chmod(0o755)
    environment = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
    }
    where = Place(folder, environment)
    emulator = where.serve("cohortsync emulator --port 0 --limiter none")
    assert emulator.stderr is not None
    [url] = re.findall(r"http://\S+", emulator.stderr.readline())
    shipped = (ROOT / "config.toml").read_text(encoding="utf-8")
    trial = shipped.replace("settle_seconds = 900.0", "settle_seconds = 1")
    (folder / "config.toml").write_text(trial.replace("http://127.0.0.1:8765", url))
    for command in preparing_commands():
        where.run(command)
    yield where
    emulator.terminate()
    emulator.communicate(timeout=20)


@pytest.mark.parametrize("command", [c for c in shell_commands() if c.startswith("make ")])
def test_a_make_target_exists(command: str) -> None:
    subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, check=True, capture_output=True)


def test_the_commands_run_in_the_order_in_which_they_stand(place: Place) -> None:
    ran = 0
    for command in shell_commands():
        # The shim on the PATH stands for what the virtual environment has there.
        if command.startswith(("make ", "cohortsync emulator", ". .venv/bin/activate")):
            continue
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            place.environment[name] = value
            continue
        if "RUN" in command:
            [latest, *_] = json.loads(place.run("cohortsync runs --json"))
            place.run(command.replace("RUN", latest["run"]))
        else:
            place.run(command)
        ran += 1
    assert ran > 8


@pytest.mark.parametrize("command", recipe_commands())
def test_a_nightly_recipe_runs(place: Place, command: str) -> None:
    place.environment["MOENGAGE_API_KEY"] = "demo-key"
    place.run(command)


def cron_lines() -> list[str]:
    """Return what cron hands to the shell."""
    lines = re.findall(r"(?m)^[0-9*,/]+ [0-9*,/]+ \* \* \* (.*)$", README)
    assert not [line for line in lines if re.search(r"(?<!\\)%", line)], "cron ends a line at %"
    return [line.replace("\\%", "%") for line in lines]


def run_by_cron(line: str, folder: Path) -> str:
    """Run a line as cron does, in the folder that stands for /srv/cohortsync; return its mail."""
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace("/srv/cohortsync", str(folder))],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "SHELL": "/bin/sh", "LOGNAME": "u"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def install(folder: Path, script: str) -> None:
    """Put a command into a folder's virtual environment."""
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    (binaries / "cohortsync").write_text(f"#!/bin/sh\n{script}\n")
    (binaries / "cohortsync").chmod(0o755)


@pytest.fixture
def installed(place: Place) -> Iterator[Path]:
    """Make the README's folder one that cron can run the command in, key and all."""
    engine = shlex.join(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "engine"])
    install(place.folder, f'exec {engine} "$@"')
    config = place.folder / "config.toml"
    shipped = config.read_text()
    config.write_text(shipped.replace("# api_key_file", "api_key_file"))
    key = place.folder / "moengage.key"
    key.write_text("demo-key\n")
    key.chmod(0o600)
    yield place.folder
    config.write_text(shipped)


@pytest.mark.parametrize("line", cron_lines())
def test_a_cron_line_works_as_written(installed: Path, line: str) -> None:
    assert run_by_cron(line, installed) == ""


def test_cron_mails_the_last_record_when_something_is_wrong(installed: Path) -> None:
    (installed / "config.toml").write_text("[workspace]\n")
    [mailed] = run_by_cron(cron_lines()[0], installed).splitlines()
    output = record(mailed)
    assert (output["event"], output["exit_status"]) == ("error", "2")


@pytest.mark.parametrize("line", cron_lines())
def test_cron_mails_each_bad_exit_status_but_an_incomplete_push_that_is_resumed(
    tmp_path: Path, line: str
) -> None:
    for status in (0, 1, 2, 3, 4, 70, 75):
        install(tmp_path, f"echo earlier >&2; echo event=ended status={status} >&2; exit {status}")
        is_quiet = not status or (status == 75 and " push " in line)
        output = "" if is_quiet else f"event=ended status={status}\n"
        assert run_by_cron(line, tmp_path) == output
    (tmp_path / ".venv" / "bin" / "cohortsync").unlink()
    assert "not found" in run_by_cron(line, tmp_path)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    install(tmp_path, "exit 0")
    [block] = re.findall(r"```ini\n(.*?)```", README, flags=re.DOTALL)
    names = []
    for name, unit in re.findall(r"# (\S+)\n(.*?)(?=\n# |\Z)", block, flags=re.DOTALL):
        (tmp_path / name).write_text(unit.replace("/srv/cohortsync", str(tmp_path)) + "\n")
        names.append(name)
    assert names == ["cohortsync.service", "cohortsync-mail.service", "cohortsync.timer"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if "cohortsync" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("command", [c for c in shell_commands() if "cohortsync emulator" in c])
def test_an_emulator_starts_and_ends_at_a_signal(place: Place, command: str) -> None:
    # Any free port: the one that the README names may be taken on the machine that runs this.
    with place.serve(f"{command} --port 0") as emulator:
        assert emulator.stderr is not None
        assert "event=listening url=http://127.0.0.1:" in emulator.stderr.readline()
        emulator.send_signal(signal.SIGTERM)
        assert emulator.wait(timeout=20) == 0
