"""`cohortsync init` writes a configuration that loads; `cohortsync schema` prints its schema."""

import json
import os
import signal
import subprocess
import termios
from pathlib import Path
from unittest.mock import patch

import pytest
from clean_room import ENGINE, until
from typer.testing import CliRunner, Result

from engine import CohortSyncError, config_schema
from engine.cli.application import app
from engine.config.loading import TABLES, load_project
from engine.config.new_config import SCHEMA_NAME, NewConfig
from engine.errors import UsageError

FLAGS = ("--workspace-id", "W$1", "--data-center", "02")
KEY = "s3cr3t-key"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, answers: str | None = None) -> Result:
    """Run `cohortsync init`, on a terminal if there are answers."""
    with patch("engine.cli.configuration._is_terminal", lambda: answers is not None):
        return CliRunner().invoke(app, ["init", *words], input=answers)


def test_what_it_writes_loads_with_the_defaults(folder: Path) -> None:
    assert run(*FLAGS, "--key-file", 'a"b\\c.key').exit_code == 0
    project = load_project(Path("config.toml"), need_credentials=False, environ={})
    workspace = project.shared.workspace
    assert (workspace.id, workspace.endpoint.label) == ("W$1", "api-02.moengage.com")
    assert project.shared.credentials is not None
    assert project.shared.credentials.file == folder / 'a"b\\c.key'
    [example] = project.cohorts.values()
    assert (example.key, example.enabled) == ("example", False)
    for name, (_, settings) in TABLES.items():
        assert getattr(project.shared, name) == settings()
    assert json.loads((folder / SCHEMA_NAME).read_text(encoding="utf-8")) == config_schema()


def test_on_a_terminal_it_asks_and_never_shows_the_key(folder: Path) -> None:
    result = run(answers=f"W\n101\n\n{KEY}\n")
    assert result.exit_code == 0
    assert KEY not in result.output
    key = folder / "moengage.key"
    assert (key.read_text(encoding="ascii"), key.stat().st_mode & 0o777) == (f"{KEY}\n", 0o600)
    config = load_project(Path("config.toml"), environ={}).shared
    assert config.workspace.require_key().reveal() == KEY
    assert config.notes == ()


def test_it_asks_again_after_a_wrong_answer_and_says_what_is_wrong(folder: Path) -> None:
    result = run(answers=f"a b\nW\n7\n02\n~nobody-here\nmy.key\n{KEY} {KEY}\n{KEY}\n")
    assert result.exit_code == 0
    assert KEY not in result.output
    for reason in ("without blanks and colons", "one of 01, ", "be a path", "an API key:"):
        assert reason in result.output
    assert (folder / "my.key").read_text(encoding="ascii") == f"{KEY}\n"
    assert 'data_center = "02"' in (folder / "config.toml").read_text(encoding="utf-8")


def test_it_asks_only_for_what_no_option_says(folder: Path) -> None:
    result = run(*FLAGS, "--key-file", "my.key", answers="")
    assert result.exit_code == 0
    assert not (folder / "my.key").exists()
    assert f"write the API key alone into {folder / 'my.key'}, with mode 0600" in result.output
    assert ".gitignore should name my.key and state/" in result.output


def test_what_cannot_be_written_leaves_no_configuration(folder: Path) -> None:
    """The command can be run again: config.toml, which it never overwrites, comes after the key."""
    (folder / "keys").touch()
    result = run(*FLAGS, answers=f"keys/my.key\n{KEY}\n")
    assert isinstance(result.exception, UsageError)
    assert "keys/my.key cannot be written" in result.exception.message
    assert [each.name for each in folder.iterdir()] == ["keys"]


def test_a_stop_at_a_question_is_one_line_and_writes_nothing(folder: Path) -> None:
    """Also while a hidden answer is typed: the terminal shows again what is typed after it."""
    ours, its = os.openpty()
    before = termios.tcgetattr(its)
    with subprocess.Popen(
        [*ENGINE, "init", *FLAGS], stdin=its, stderr=its, cwd=folder, start_new_session=True
    ) as process:
        shown = b""
        for awaited, answer in ((b"File with", b"\n"), (b"(hidden", b"")):
            while awaited not in shown:
                shown += os.read(ours, 1000)
            os.write(ours, answer)
        until(lambda: not termios.tcgetattr(its)[3] & termios.ECHO, "it hides what is typed")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 75
        shown += os.read(ours, 1000)
    assert termios.tcgetattr(its) == before
    os.close(ours)
    os.close(its)
    text = shown.decode()
    assert "error: stopped before anything was written" in text
    assert "Traceback" not in text
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["config.toml", "link.toml"])
def test_nothing_is_overwritten(folder: Path, name: str) -> None:
    (folder / "link.toml").symlink_to("nowhere")
    (folder / "config.toml").write_text("mine", encoding="utf-8")
    result = run(name, *FLAGS)
    assert isinstance(result.exception, UsageError)
    assert result.exception.message == f"{name} exists already, and is not overwritten"
    assert result.exception.hint == "name a new file: `cohortsync init FILE`"
    assert (folder / "config.toml").read_text(encoding="utf-8") == "mine"
    assert not (folder / SCHEMA_NAME).exists()


def test_a_schema_that_is_there_stays(folder: Path) -> None:
    (folder / SCHEMA_NAME).write_text("mine", encoding="utf-8")
    assert run(*FLAGS).exit_code == 0
    assert (folder / SCHEMA_NAME).read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "`cohortsync init` needs --workspace-id and --data-center"),
        (FLAGS[:2], "`cohortsync init` needs --data-center"),
        (("--workspace-id", "a b", *FLAGS[2:]), "--workspace-id should be printable ASCII"),
        ((*FLAGS[:3], "7"), "--data-center should be one of 01, 02, 03, 04, 05, 06, 101"),
        ((*FLAGS, "--key-file", " "), "--key-file should be a path"),
        (("no/folder.toml", *FLAGS), "no/folder.toml cannot be written: there is no folder no"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    folder: Path, words: tuple[str, ...], says: str
) -> None:
    error = run(*words).exception
    assert isinstance(error, CohortSyncError)
    assert error.message.startswith(says)
    assert error.exit_status == 2
    assert not list(folder.iterdir())


def test_the_end_of_the_input_is_a_stop(folder: Path) -> None:
    error = run(answers="W\n").exception
    assert isinstance(error, CohortSyncError)
    assert (error.exit_status, error.message) == (75, "stopped before anything was written")
    assert not list(folder.iterdir())


def test_a_text_that_is_no_key_is_not_written(folder: Path) -> None:
    with pytest.raises(UsageError, match="the API key should hold an API key") as caught:
        NewConfig("W", "01").write(folder / "config.toml", f"{KEY} {KEY}")
    assert KEY not in caught.value.message
    assert not list(folder.iterdir())


def test_the_schema_is_printed() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == config_schema()


def test_any_text_survives_in_what_is_written(folder: Path) -> None:
    for number, name in enumerate(("${HOME}", "$$", "ü", "a\x7fb", "\x01", "'''", '"""')):
        path = folder / f"{number}.toml"
        NewConfig("W", "01", name).write(path)
        [config] = load_project(path, need_credentials=False, environ={}).workspaces.values()
        assert config.credentials is not None
        assert config.credentials.file == folder / name
