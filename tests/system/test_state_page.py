"""Every command in docs/state.md runs, in its order, against the emulator."""

import re
import shlex
from pathlib import Path

from emulated_api import Emulator
from nightly import CommandLine

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "state.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip()
    for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def test_the_commands_of_the_page_run(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror={"settle_seconds": 0.0}, guards={"max_removals": 1.0})
    days = {"monday": range(40), "tuesday": range(20, 60), "wednesday": range(30, 50)}
    target = ("--column", "user_id", "--cohort-id", "vip", "--cohort-name", "VIP customers")
    for name, numbers in days.items():
        lines = ["user_id,country", *(f"user-{number},IN" for number in numbers)]
        (cli.folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert cli.run("mirror", "monday.csv", *target).status == 0
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        assert program == "cohortsync"
        if arguments[0] == "restore":  # After the backup, another mirror ran.
            assert cli.run("mirror", "tuesday.csv", *target).status == 0
        ended = cli.run(*arguments)
        assert ended.status == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        if arguments[0] == "restore":
            blocked = cli.run("mirror", "wednesday.csv", *target, "--json")
            assert blocked.status == 4
            assert "restored" in blocked.document["reason"]
    assert len(COMMANDS) == 14
    assert api.members("vip") == {f"user-{number}" for number in days["wednesday"]}
