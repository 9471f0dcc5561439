"""The README says what the code does: its statuses, commands and documents."""

import json
import re
from dataclasses import fields
from pathlib import Path

from engine.cli.application import app
from engine.errors import ExitStatus
from engine.planning.allowances import COUNTED, Guard
from engine.report.accounts import Accounts
from engine.report.files import files_document
from engine.source.source_file import SourceFile

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_exit_status_stands_in_the_readme_and_no_other() -> None:
    assert {int(n) for n in re.findall(r"(?m)^\| (\d+) \|", README)} == {*ExitStatus}


def test_every_guard_stands_in_the_readme_and_no_other() -> None:
    documented = re.findall(r"(?m)^\| `(\w+)` \| .* \| (a number|its name|nothing) \|$", README)
    lifted = {Guard.EMPTY: "nothing"}
    assert documented == [
        (guard, lifted.get(guard, "a number" if guard in COUNTED else "its name"))
        for guard in Guard
    ]


def test_every_command_stands_in_the_readme_and_no_other() -> None:
    documented = re.findall(r"(?m)^\| `cohortsync (snapshot \w+|\w+)", README)
    registered = [
        command.callback.__name__ for command in app.registered_commands if command.callback
    ]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        registered += [
            f"{group.name} {command.name or (command.callback and command.callback.__name__)}"
            for command in group.typer_instance.registered_commands
        ]
    assert sorted(documented) == sorted(registered)


def test_the_json_document_in_the_readme_has_the_keys_of_a_real_one() -> None:
    [text] = re.findall(r"```json\n(.*?)```", README, flags=re.DOTALL)
    document = json.loads(text)
    accounts = [f.name for f in fields(Accounts) if f.name != "mirror"]
    assert list(document) == [*accounts, "hint", *files_document([])]
    [file] = files_document([SourceFile("export.csv", 1, 1)])["files"]
    assert list(document["files"][0]) == list(file)
    assert list(document["files_total"]) == list(files_document([])["files_total"])
    for name in ("rows", "uids", "batches", "requests", "ceiling", "ceiling_spending"):
        inner = next(field.type for field in fields(Accounts) if field.name == name)
        assert list(document[name]) == [field.name for field in fields(inner)]  # type: ignore[arg-type] # a dataclass


def test_ci_runs_the_test_command_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for target in ("demo", "test", "slow", "lint", "bench"):
        assert re.search(rf"(?m)^{target}:", makefile)
        assert f"make {target}" in README
    assert "make test" in ci
