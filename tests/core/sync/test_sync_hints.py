"""A hint that names an option of single runs also says what stands for it in a sync."""

import ast
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from engine.cli.application import app
from engine.sync.hints import COMMAND_OF, KEY_OF, in_sync, options_in
from pages import ROOT

PARTS = ("source", "planning", "snapshot", "ledger", "payload", "delivery", "storage", "runs")
"""The parts whose errors and notes a cohort of a sync may have."""
BY_HAND = {
    *("runs/mirror.py", "runs/requests.py", "runs/transfer.py", "runs/resume.py"),
    *("runs/backup.py", "runs/inquiry.py", "snapshot/baseline.py", "planning/allowances.py"),
}
"""Modules whose hints are about arguments that a sync does not have, or gives otherwise."""
ELSEWHERE = {"--action", "--exclude", "--batch", "--csv", "--git"}
"""Options of messages that a sync can't cause, and of other programs."""


def parameters(name: str) -> set[str]:
    commands: Any = typer.main.get_command(app)
    return {option for each in commands.commands[name].params for option in each.opts}


def texts() -> Iterator[str]:
    for part in PARTS:
        for path in (ROOT / "engine" / part).rglob("*.py"):
            if str(path.relative_to(ROOT / "engine")) in BY_HAND:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_each_option_in_a_hint_is_one_of_sync_or_is_explained() -> None:
    named = {option for text in texts() for option in options_in(text)}
    assert {"--column", "--on-changed", "--trust", "--wait"} <= named
    assert named <= parameters("sync") | set(KEY_OF) | set(COMMAND_OF) | ELSEWHERE


@pytest.mark.parametrize("option", COMMAND_OF)
def test_a_command_that_a_hint_names_has_the_option(option: str) -> None:
    assert option in parameters(COMMAND_OF[option])
    hint = in_sync(f"pass {option}", "vip")
    assert hint == f"pass {option}; `cohortsync {COMMAND_OF[option]} --cohort vip` has this option"


def test_an_option_is_named_with_its_key() -> None:
    found = in_sync("--column NAME, or --format if the file is no ndjson", "vip")
    assert found.endswith("; in the configuration, that is `column`, `format` of [cohorts.vip]")
    assert in_sync("`cohortsync check --column`; pass --wait", "vip") == (
        "`cohortsync check --column`; pass --wait"
    )
