"""`--help` of each command: each option is explained, and as the command takes it."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from engine.cli.application import app
from engine.cli.command import COMMAND_PANELS
from engine.cli.examples import EXAMPLES
from pages import ROOT

GROUP: Any = typer.main.get_command(app)
GROUPS = {name: each.commands for name, each in GROUP.commands.items() if hasattr(each, "commands")}
COMMANDS = {
    **{name: command for name, command in GROUP.commands.items() if name not in GROUPS},
    **{
        f"{group} {name}": command
        for group, commands in GROUPS.items()
        for name, command in commands.items()
    },
}
CREATORS = ("push", "mirror", "plan")
"""Commands that may create a cohort."""


def options(command: str) -> dict[str, Any]:
    context = typer.Context(COMMANDS[command])
    found = COMMANDS[command].get_params(context)
    return {max(each.opts, key=len): each for each in found}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_is_explained_and_none_by_the_framework_s_words(command: str) -> None:
    for name, option in options(command).items():
        if name.startswith("--"):
            assert len((option.help or "").split()) >= 2, name
            assert option.metavar is not None, name
            assert not option.is_flag or option.metavar == "", name


SAID = {
    "--cohort-id": lambda command: (
        "chosen by you" if command in CREATORS else "as mirrored or pushed"
    ),
    "--wait": lambda _: "exit status 75 at once",
    "--json": lambda command: "ndjson" if command == "rejects" else "one JSON document",
    "--state": lambda _: "instead of the configured",
    "--endpoint": lambda _: "else the configured",
    "--column": lambda _: "with --no-header its number",
    "--reason": lambda _: "--allow",
    "--on-changed": lambda _: "or a later run has touched",
    "--csv": lambda _: "safe for spreadsheets",
    "--first": lambda _: "left",
}
"""What the help of an option says in a command, because the code does so."""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_an_option_is_true_in_each_command(command: str) -> None:
    for name, option in options(command).items():
        if name in SAID:
            assert SAID[name](command) in option.help, name
    if "--reason" in options(command):
        assert "--reason" in options(command)["--allow"].help


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        *((name, set()) for name in CREATORS),
        *((name, set()) for name in COMMANDS if name.startswith("snapshot")),
        ("why", set()),
        ("rollback", {"--to"}),
        *((name, set()) for name in ("resume", "apply", "runs", "show", "rejects", "check")),
    ],
)
def test_the_options_that_a_command_cannot_do_without_are_marked(
    command: str, needed: set[str]
) -> None:
    required = {name for name, option in options(command).items() if option.required}
    assert {name for name in required if name.startswith("--")} == needed


def help_of(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "-h"], prog_name="cohortsync", env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.stdout


def test_the_commands_are_in_groups() -> None:
    text = help_of()
    places = [text.index(f"─ {panel} ─") for panel in COMMAND_PANELS]
    assert places == sorted(places)
    assert "─ Commands ─" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_and_shows_no_type_that_says_nothing(command: str) -> None:
    text = help_of(*command.split())
    assert max(map(cell_len, text.splitlines())) <= 80
    for clutter in ("<bool>", "<str>", "<int", "<float", "list[", "<=x<=", "]...]", "..."):
        named = re.sub(r"(EXPORT|FILES|\[EXPORT\]|\[COHORT\]|\[COHORT\|EXPORT\])\.\.\.", "", text)
        assert clutter not in named, clutter
    assert "…" not in text
    assert all(re.fullmatch("<[^<>]+>", each) for each in re.findall(r"<\S*|\S*>(?=  )", text))
    assert "Examples:" in text


def test_the_paragraphs_of_help_are_broken_only_at_the_width() -> None:
    [paragraph] = re.findall(r"(?s) The exit status is.*?left\.", help_of("sync"))
    first, *_ = paragraph.splitlines()
    assert len(first.rstrip()) > 70


@pytest.mark.parametrize(
    "line", [line for lines in EXAMPLES.values() for line in lines if line.startswith("cohortsync")]
)
def test_each_example_is_a_command_line(line: str) -> None:
    words = shlex.split(line.partition("   ")[0].partition(" >")[0].removesuffix("\\"))[1:]
    name = " ".join(words[:2]) if words[0] in GROUPS else words[0]
    COMMANDS[name].make_context(name, words[len(name.split()) :])


def named_commands() -> Iterator[str]:
    """Yield each command that a message of the program names, in backticks."""
    for path in (ROOT / "engine").rglob("*.py"):
        joined = re.sub(r'"\n\s*f?"', "", path.read_text("utf-8"))
        yield from re.findall(r"`cohortsync ([a-z][^`…]*)`", joined)


def test_each_command_that_a_message_names_is_there_with_its_options() -> None:
    found = set(named_commands())
    assert {"init FILE", "check", "resume --all"} <= found
    for text in found:
        words = text.split()
        name = " ".join(words[:2]) if words[0] in GROUPS else words[0]
        if "{" in name:
            continue  # The name is one of a set, such as that of an enum.
        assert name in COMMANDS, text
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= {*options(name), "--help"}, text


def test_no_message_names_the_shipped_configuration() -> None:
    """Who has installed the program does not have it."""
    for path in (ROOT / "engine").rglob("*.py"):
        assert "the shipped" not in path.read_text(encoding="utf-8"), path
