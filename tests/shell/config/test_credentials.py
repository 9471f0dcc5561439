"""The sources of the API key, their precedence, and what a failing one says."""

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from engine.config.loading import Config, credentials_problem, load
from engine.errors import ConfigError

KEY = "s3cr3t-key"
TARGET = 'id = "W"\nendpoint = "http://127.0.0.1:9"\n'
BY_FILE = 'api_key_file = "k"\n'
ENVIRONMENT = {"MOENGAGE_API_KEY": "from-variable"}


def command(script: str) -> str:
    return f"api_key_command = ['{sys.executable}', '-c', '''{script}''']\n"


BY_SYSTEMD = "`$CREDENTIALS_DIRECTORY/moengage_api_key`"
BY_COMMAND = command('print("from-command")')


@pytest.fixture
def systemd(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "moengage_api_key").write_text("from-systemd\n", encoding="ascii")
    (folder / "moengage_api_key_eu-1").write_text("eu-from-systemd", encoding="ascii")
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def loaded(folder: Path, lines: str, environ: dict[str, str], table: str = "workspace") -> Config:
    path = folder / "config.toml"
    path.write_text(f"[{table}]\n{TARGET}{lines}", encoding="utf-8")
    key = folder / "k"
    key.write_text("from-file\n", encoding="ascii")
    key.chmod(0o600)
    return load(path, environ=environ)


def problem_of(folder: Path, script: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, command(script), environ)
    assert KEY not in caught.value.message
    place = f"{folder / 'config.toml'}: `workspace.api_key_command` "
    assert caught.value.message.startswith(place)
    return caught.value.message.removeprefix(place)


@pytest.mark.parametrize(
    ("lines", "has_systemd", "key", "notes"),
    [
        (
            BY_FILE + BY_COMMAND,
            True,
            "from-file",
            [
                "`workspace.api_key_file` in {} wins over `workspace.api_key_command`",
                f"`workspace.api_key_file` in {{}} wins over {BY_SYSTEMD}",
                "`workspace.api_key_file` in {} wins over `MOENGAGE_API_KEY`",
            ],
        ),
        (
            BY_COMMAND,
            False,
            "from-command",
            ["`workspace.api_key_command` in {} wins over `MOENGAGE_API_KEY`"],
        ),
        (
            "",
            True,
            "from-systemd",
            [f"{BY_SYSTEMD} wins over `MOENGAGE_API_KEY`"],
        ),
        ("", False, "from-variable", []),
    ],
)
def test_the_first_source_that_is_set_is_used_and_the_others_are_noted(
    systemd: dict[str, str],
    lines: str,
    has_systemd: bool,  # noqa: FBT001 - a parameter of the test
    key: str,
    notes: list[str],
) -> None:
    folder = Path(systemd["CREDENTIALS_DIRECTORY"]).parent
    config = loaded(folder, lines, ENVIRONMENT | (systemd if has_systemd else {}))
    assert config.workspace.require_key().reveal() == key
    assert config.notes == tuple(note.format(folder / "config.toml") for note in notes)


def test_a_named_workspace_has_a_credential_of_its_own_name(
    tmp_path: Path, systemd: dict[str, str]
) -> None:
    config = loaded(tmp_path, "", systemd, "workspaces.eu-1")
    assert config.workspace.require_key().reveal() == "eu-from-systemd"
    with pytest.raises(ConfigError, match="no API key"):
        loaded(tmp_path, "", systemd, "workspaces.us")


def test_a_replaced_key_is_read_again(tmp_path: Path) -> None:
    config = loaded(tmp_path, BY_FILE, {})
    (tmp_path / "k").write_text("newer\n", encoding="ascii")
    assert config.with_key({}).workspace.require_key().reveal() == "newer"
    assert config.workspace.require_key().reveal() == "from-file"


def test_the_command_runs_in_the_folder_of_the_file_without_a_shell(tmp_path: Path) -> None:
    (tmp_path / "key.py").write_text(
        "import sys; print(sys.argv[1].replace(' ', '_'))", encoding="utf-8"
    )
    lines = f"api_key_command = ['{sys.executable}', 'key.py', '$HOME; echo x']\n"
    config = loaded(tmp_path, lines, {})
    assert config.workspace.require_key().reveal() == "$HOME;_echo_x"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("raise SystemExit(3)", "ended with exit status 3"),
        ('print("a"); raise SystemExit("denied")', "ended with exit status 1: denied"),
        ("import os; os.kill(os.getpid(), 9)", "ended with signal 9"),
        ("pass", "holds nothing"),
        ('print("a b")', "should hold an API key: printable ASCII without blanks"),
        ('print("a\\nb")', "should hold an API key: printable ASCII without blanks"),
    ],
)
def test_a_command_that_gives_no_key_is_one_line(tmp_path: Path, script: str, says: str) -> None:
    assert problem_of(tmp_path, script) == says


def test_what_the_command_prints_is_masked_in_its_last_line_of_stderr(tmp_path: Path) -> None:
    script = f'import sys; print("{KEY}"); sys.exit("first\\nbad key {KEY}, " + "x" * 999)'
    says = problem_of(tmp_path, script)
    assert says.startswith("ended with exit status 1: bad key ***, xxx")
    assert len(says) < 250


def test_a_secret_argument_from_a_variable_is_masked(tmp_path: Path) -> None:
    lines = (
        f"api_key_command = ['{sys.executable}', '-c', 'exit(\"no ${{TOKEN}}\")', '${{TOKEN}}']\n"
    )
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, lines, {"TOKEN": "t0k3n"})
    assert caught.value.message.endswith(
        "`workspace.api_key_command` ended with exit status 1: no ***"
    )


def test_a_program_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be started: No such file or directory$"):
        loaded(tmp_path, "api_key_command = ['./nowhere', 'x']\n", {})


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    output = []

    def time_out(process: "subprocess.Popen[bytes]", timeout: float) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        output.append(os.dup(process.stdout.fileno()))
        raise subprocess.TimeoutExpired(process.args, timeout)

    lines = "api_key_command = ['sh', '-c', 'tail -f /dev/null & echo started; wait']\n"
    with (
        patch.object(subprocess.Popen, "communicate", time_out),
        pytest.raises(ConfigError, match=r"printed no key within 30 s$"),
    ):
        loaded(tmp_path, lines, {})
    assert os.read(output[0], 1) == b""  # No process that could write to it is left.
    os.close(output[0])


def test_no_form_of_the_configuration_shows_the_command(tmp_path: Path) -> None:
    config = loaded(tmp_path, BY_COMMAND, {})
    assert "from-command" not in repr(config)


def test_a_command_without_need_of_the_key_asks_for_the_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[workspaces.eu]\n{TARGET}", encoding="utf-8")
    says = "no API key: name a file that holds it as `workspaces.eu.api_key_file`"
    assert says in (credentials_problem(path, environ={}) or "")
    assert credentials_problem(path, environ={"MOENGAGE_API_KEY_EU": "k"}) is None
    assert "no workspace 'us'" in (credentials_problem(path, workspace="us", environ={}) or "")
