"""Every command in docs/nightly.md runs, in its order, against the emulator."""

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

from emulated_api import Emulator
from nightly import CommandLine

from engine.errors import ExitStatus

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "nightly.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
]


def write_export(path: Path, *uids: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("user_id\n" + "".join(f"user-{each}\n" for each in uids), encoding="utf-8")


def test_the_commands_of_the_page_run(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror={"settle_seconds": 0.0}, sync={"time_zone": "UTC"})
    [tables] = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    with (cli.folder / "config.toml").open("a", encoding="utf-8") as config:
        config.write(tables)
    exports = cli.folder / "exports"
    today = datetime.now(UTC).date()
    for day in (today, today + timedelta(days=1)):  # Midnight may come.
        write_export(exports / f"vip-{day}.csv", *range(40))
    write_export(exports / "vip-corrected.csv", *range(1, 40))
    write_export(exports / "lapsed.csv", *range(100, 120))
    (exports / "suppressed.txt").write_text("user-3\n", encoding="utf-8")
    for program, *arguments in COMMANDS:
        assert program == "cohortsync"
        ended = cli.run(*arguments)
        assert ended.status == 0, f"{arguments}\n{ended.stdout}\n{ended.stderr}"
    assert len(COMMANDS) == 12
    assert api.members("vip") == {f"user-{each}" for each in range(40)} - {"user-3"}
    assert api.members("lapsed") == {f"user-{each}" for each in range(100, 120)}


def test_the_table_of_the_page_has_every_exit_status() -> None:
    assert {int(number) for number in re.findall(r"(?m)^\| (\d+) \|", PAGE)} == {*ExitStatus}
