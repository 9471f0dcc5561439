"""The JSON Schema accepts what the program accepts, and refuses the mistakes that it can see."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from test_cohort_mistakes import MISTAKES

from engine.config.new_config import NewConfig
from engine.config.schema import config_schema, schema_text

ROOT = Path(__file__).parents[3]
VALIDATOR = Draft202012Validator(config_schema())
BEYOND = re.compile(
    r"twice|time zone|standard input|API refuses|empty|control|guard that|pattern|same|workspace"
    r"|wait_minutes|include|itself|variable|share|date|newest|remove|machine|without a URL|is a URL"
    r"|of two cohorts"
)
"""Mistakes that a schema of one file can't see."""


def errors_in(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def uncommented() -> str:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    return re.sub(r"^# (\w+ = |\[)", r"\1", text, flags=re.MULTILINE)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(config_schema())


def test_it_accepts_what_ships_with_every_key_set() -> None:
    assert not errors_in((ROOT / "config.toml").read_text(encoding="utf-8"))
    assert not errors_in(uncommented())
    assert not errors_in(NewConfig("W", "01").text)


def test_it_accepts_variables_in_any_text() -> None:
    assert not errors_in(re.sub(r'(?<![-\w])"[^"\n]*"', '"${X}"', uncommented()))


@pytest.mark.parametrize("name", [name for name in MISTAKES if not BEYOND.search(name)])
def test_it_refuses_a_mistake(name: str) -> None:
    assert errors_in(MISTAKES[name].text)


@pytest.mark.parametrize(
    "name", ["both kinds of workspaces", "limits of a workspace", "another table of a workspace"]
)
def test_it_refuses_a_mistake_in_workspaces(name: str) -> None:
    assert errors_in(MISTAKES[name].text)


def test_each_key_and_table_is_described() -> None:
    schema = config_schema()

    def undescribed(table: dict[str, Any], name: str) -> list[str]:
        found = []
        for key, each in table.get("properties", {}).items():
            target = schema["$defs"][each["$ref"].rpartition("/")[2]] if "$ref" in each else each
            if not target.get("description"):
                found.append(f"{name}.{key}")
            found += undescribed(target, f"{name}.{key}")
        return found

    assert not undescribed(schema, "")
    assert not undescribed(schema["$defs"]["cohort"], "cohorts")


def test_the_shipped_file_names_the_shipped_schema() -> None:
    first = (ROOT / "config.toml").read_text(encoding="utf-8").partition("\n")[0]
    name = first.removeprefix("#:schema ./")
    shipped = (ROOT / name).read_text(encoding="utf-8")
    # `python -m engine schema > docs/config.schema.json` renews it.
    assert json.loads(shipped) == config_schema()
    assert shipped == schema_text()
