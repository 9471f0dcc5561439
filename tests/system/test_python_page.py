"""Every program in docs/python.md runs, against the emulator, and prints what the page says."""

import os
import re
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
from clean_room import environment
from nightly import CommandLine

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
TABLES = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, flags=re.DOTALL)


def test_every_program_of_the_page_says_what_it_prints() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") == 8


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_page(cli: CommandLine, number: int) -> None:
    program, expected = PROGRAMS[number]
    lines = ["user_id,country", *(f"user-{n},IN" for n in range(1000)), ","]
    (cli.folder / "export.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    cli.configure(mirror={"settle_seconds": 0.0})
    with (cli.folder / "config.toml").open("a", encoding="utf-8") as config:
        config.writelines(TABLES)
    stdout = StringIO()
    with (
        patch.dict(os.environ, environment(cli.folder), clear=True),
        chdir(cli.folder),
        redirect_stdout(stdout),
    ):
        exec(compile(program, "docs/python.md", "exec"), {"__name__": "__main__"})  # noqa: S102 - the page is ours
    assert stdout.getvalue() == expected
