"""Each error that a command line can cause comes with a hint at what to do."""

from pathlib import Path

import pytest
from nightly import TARGET, CommandLine

FREE = ("emulator", "--port", "0")
COHORT = TARGET[:2]
MISTAKES = {
    "an endpoint of another scheme": ("push", "x.csv", *TARGET, "--endpoint", "ftp://host"),
    "a configuration that is no TOML": ("push", "x.csv", *TARGET, "--config", "bad.toml"),
    "a configuration that is not UTF-8": ("push", "x.csv", *TARGET, "--config", "latin.toml"),
    "an unknown key": ("push", "x.csv", *TARGET, "--config", "unknown.toml"),
    "a state folder with NUL": ("runs", "--config", "nul.toml"),
    "a snapshot that is not there": ("snapshot", "import", "nowhere.parquet", *COHORT),
    "a snapshot that is a folder": ("snapshot", "import", ".", *COHORT),
    "a snapshot that is no Parquet": ("snapshot", "import", "bad.toml", *COHORT),
    "options that exclude each other": ("mirror", "x", *TARGET, "--dry-run", "--shadow"),
    "a limiter that is none": (*FREE, "--limiter", "x"),
    "a header that is none": (*FREE, "--retry-after", "x"),
    "a fault without a share": (*FREE, "--fault", "500"),
    "a share above 1": (*FREE, "--fault", "500=2"),
    "a request before the first": (*FREE, "--fault-at", "500=0"),
    "a plan that is not there": (*FREE, "--plan", "nowhere"),
    "a plan that is no TOML": (*FREE, "--plan", "bad.toml"),
    "users that are not there": (*FREE, "--known-users", "nowhere"),
    "poison that is not there": (*FREE, "--poison-file", "nowhere"),
    "a workspace without a key": (*FREE, "--workspace", "W"),
    "a blocked workspace that is none": (*FREE, "--blocked", "W"),
    "a window without requests": (*FREE, "--requests", "0"),
    "a burst that no limiter has": (*FREE, "--burst", "2"),
    "a log that cannot be written": (*FREE, "--log", "nowhere/log"),
    "a port file that cannot be written": (*FREE, "--port-file", "nowhere/port"),
    "a host that every machine reaches": (*FREE, "--host", "0.0.0.0"),  # noqa: S104 - refused
    "a port that is none": ("emulator", "--port", "99999"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mistakes")
    (made / "bad.toml").write_text("id = \n")
    (made / "latin.toml").write_bytes(b"# caf\xe9\n")
    (made / "unknown.toml").write_text("[workspace]\nidd = 'x'\n")
    (made / "nul.toml").write_text('[state]\ndir = "a\\u0000b"\n')
    return made


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_error_with_a_hint(folder: Path, mistake: str) -> None:
    cli = CommandLine(folder, "http://127.0.0.1:1")
    cli.configure()
    ended = cli.run(*MISTAKES[mistake])
    assert ended.status == 2
    assert "error: " in ended.stderr
    assert "hint: " in ended.stderr
    assert "Parquet magic" not in ended.stderr
