"""Every command in docs/sources.md runs, against the emulator; its configuration is valid."""

import re
import shlex
import subprocess
import tomllib
from datetime import date
from pathlib import Path

from emulated_api import Emulator
from nightly import CommandLine

from engine.config.loading import load_project
from engine.source.dates import date_problem, expand_dates
from engine.source.files.patterns import pick_problem

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror={"settle_seconds": 0.0})
    lines = "".join(re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)).splitlines()
    for line in lines:
        name, *arguments = shlex.split(line)
        if name == "cohortsync":
            ended = cli.run(*arguments)
            assert ended.status == 0, f"{line}\n{ended.stderr}"
        else:
            subprocess.run(["bash", "-c", line], cwd=cli.folder, check=True)
    assert len(lines) == 9
    assert api.members("vip") == {"u1", "u2", "u3"}
    assert api.members("new") == {"u2", "u3"}
    assert api.members("ads") == api.members("seg") == {"u1", "u3"}


def test_the_configuration_of_the_page(tmp_path: Path) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    path = tmp_path / "config.toml"
    path.write_text(f'[workspace]\nid = "W"\ndata_center = "01"\n{text}', encoding="utf-8")
    assert load_project(path, need_credentials=False, environ={}).cohorts.keys() == {
        "vip",
        "lapsed",
    }
    cohorts = tomllib.loads(text)["cohorts"]
    named = [cohorts["vip"]["source"], cohorts["lapsed"]["wait_for"]]
    named += cohorts["lapsed"]["exclude"]["source"]
    assert [date_problem(name) for name in named] == [None] * 4
    assert [expand_dates(name, date(2026, 11, 27)) for name in named] == [
        "exports/2026-11-27/vip-*.csv.gz",
        "s3://exports/lapsed/_done/20261126",
        "suppressed.txt",
        "staff-2026-11-27.csv",
    ]
    assert pick_problem(cohorts["lapsed"]["source"]) is None
