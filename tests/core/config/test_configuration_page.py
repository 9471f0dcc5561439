"""docs/configuration.md describes every key with its default, and its examples load."""

import re
import tomllib
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import pytest

from engine.config.cohort_settings import CohortSettings, ExcludeSettings
from engine.config.connections import ConnectionTable
from engine.config.lake_tables import DeltaSource, IcebergSource
from engine.config.limits import HoursTable
from engine.config.loading import TABLES, load_project
from engine.config.queries import QuerySource, QueryTable
from engine.config.settings import StateTable, TopLevel, WorkspaceTable
from engine.config.toml_settings import key_fields
from engine.planning.settings import DEFAULT_SPREAD_HOURS

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
DOCUMENTED = dict(re.findall(r"(?m)^\| `((?:\w+\.)*\w+)` \| (?:`([^`]*)`)? *\| ", PAGE))
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
WORKSPACE = '\n[workspace]\nid = "W"\ndata_center = "01"\n'


def defaults() -> dict[str, Any]:
    """Return each key, and its default if it has one that is a single value."""
    found: dict[str, Any] = {"cohorts.KEY.guards": None, "cohorts.KEY.exclude": None}
    for table, settings in (
        *TABLES.values(),
        ("", TopLevel),
        ("workspace", WorkspaceTable),
        ("state", StateTable),
        ("cohorts.KEY", CohortSettings),
        ("cohorts.KEY.exclude", ExcludeSettings),
        ("cohorts.KEY.source", DeltaSource),
        ("cohorts.KEY.source", IcebergSource),
        ("cohorts.KEY.source", QuerySource),
        ("connections.NAME", ConnectionTable),
        ("queries.NAME", QueryTable),
    ):
        for key, field in key_fields(settings).items():
            default = None if field.default in {MISSING, "", ()} else field.default
            found[f"{table}.{key}".lstrip(".")] = default
    found |= {f"limits.hours.{key}": None for key in key_fields(HoursTable)}
    return found | {"guards.max_spread_hours": DEFAULT_SPREAD_HOURS}


def test_the_page_describes_every_key_and_no_other() -> None:
    assert set(DOCUMENTED) == set(defaults())


@pytest.mark.parametrize("key", defaults())
def test_the_page_tells_the_default(key: str) -> None:
    told = tomllib.loads(f"x = {DOCUMENTED[key]}")["x"] if DOCUMENTED[key] else None
    assert told == defaults()[key]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_loads(tmp_path: Path, number: int) -> None:
    text = EXAMPLES[number]
    path = tmp_path / "config.toml"
    path.write_text(text if "[workspace" in text else text + WORKSPACE, encoding="utf-8")
    project = load_project(path, need_credentials=False, environ={})
    assert set(project.cohorts) == set(tomllib.loads(text).get("cohorts", {}))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 7
