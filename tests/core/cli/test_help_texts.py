"""README.md and docs/ say what the code does: its statuses, guards, commands and documents."""

import json
import re
from dataclasses import fields

from engine.cli.application import app
from engine.errors import ExitStatus
from engine.model.status import RunStatus
from engine.planning.allowances import COUNTED, Guard
from engine.report.accounts import Accounts
from engine.report.files import files_document
from engine.source.source_file import SourceFile
from pages import PAGES, ROOT, fences

README = (ROOT / "README.md").read_text(encoding="utf-8")
MIRROR = (ROOT / "docs" / "mirror.md").read_text(encoding="utf-8")
JSON = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")


def test_every_exit_status_stands_in_the_readme_and_no_other() -> None:
    assert {int(n) for n in re.findall(r"(?m)^\| (\d+) \|", README)} == {*ExitStatus}


def test_every_guard_stands_in_its_page_and_no_other() -> None:
    documented = re.findall(r"(?m)^\| `(\w+)` \| .* \| (a number|its name|nothing) \|$", MIRROR)
    lifted = {Guard.EMPTY: "nothing"}
    assert documented == [
        (guard, lifted.get(guard, "a number" if guard in COUNTED else "its name"))
        for guard in Guard
    ]


def test_every_command_stands_in_the_readme_once_and_no_other() -> None:
    rows = re.findall(r"(?m)^\| [^|]+ \| ([^|]*) \| \[", README)
    registered = [
        command.callback.__name__ for command in app.registered_commands if command.callback
    ]
    registered += [str(group.name) for group in app.registered_groups]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(registered)


def test_every_command_but_resume_is_run_by_a_page() -> None:
    pages = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    run = set(re.findall(r"(?:^|[|:] )cohortsync (\w+)", pages, flags=re.MULTILINE))
    registered = {each.callback.__name__ for each in app.registered_commands if each.callback}
    assert registered - run == {"resume"}  # No page leaves a run unfinished.


def test_the_json_document_of_the_page_has_the_keys_of_a_real_one() -> None:
    [text] = fences(ROOT / "docs" / "json.md", "json")
    document = json.loads(text)
    accounts = [f.name for f in fields(Accounts) if f.name != "mirror"]
    assert list(document) == [*accounts, "hint", *files_document([])]
    [file] = files_document([SourceFile("export.csv", 1, 1)])["files"]
    assert list(document["files"][0]) == list(file)
    assert list(document["files_total"]) == list(files_document([])["files_total"])
    for name in ("rows", "uids", "batches", "requests", "ceiling", "ceiling_spending"):
        inner = next(field.type for field in fields(Accounts) if field.name == name)
        assert list(document[name]) == [field.name for field in fields(inner)]  # type: ignore[arg-type] # a dataclass


def test_the_page_lists_every_status_of_a_run() -> None:
    [table] = re.findall(r"(?s)`status` is one of\n\n(.*?)\n\n", JSON)
    listed = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row)}
    assert listed >= {*RunStatus}


def test_ci_runs_the_test_command_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = re.findall(r"(?m)(?:^|`)make (\w+)", README)
    assert {"demo", "test", "slow", "lint", "bench"} <= set(targets)
    for target in targets:
        assert re.search(rf"(?m)^{target}:", makefile), target
    assert "make test" in ci
