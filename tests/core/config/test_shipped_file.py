"""The config.toml that ships says what the code does."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from engine.config.cohort_settings import CohortSettings, ExcludeSettings
from engine.config.connections import ConnectionTable
from engine.config.limits import HoursTable
from engine.config.loading import TABLES, Config, load, load_project
from engine.config.queries import QueryTable
from engine.config.settings import StateTable, TopLevel, WorkspaceTable
from engine.config.toml_settings import key_fields

SHIPPED = Path(__file__).parents[3] / "config.toml"


@pytest.fixture
def shipped() -> Config:
    return load(SHIPPED, need_credentials=False, environ={})


def test_no_settings_class_of_the_configuration_is_forgotten_here() -> None:
    others = {"path", "workspace", "state_dir", "notes", "name", "credentials", "connections"}
    others |= {"shared"}
    assert {field.name for field in fields(Config)} == set(TABLES) | others


@pytest.mark.parametrize("name", TABLES)
def test_what_ships_equals_the_defaults_of_the_code(shipped: Config, name: str) -> None:
    assert getattr(shipped, name) == TABLES[name][1]()


def test_what_ships_equals_the_defaults_of_partner_and_state_folder(
    shipped: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bare = load(
        endpoint="http://127.0.0.1:1",
        environ={"MOENGAGE_WORKSPACE_ID": "w", "MOENGAGE_API_KEY": "k"},
    )
    assert bare.path is None
    assert bare.workspace.partner == shipped.workspace.partner
    assert bare.state_dir == tmp_path / "state"
    assert shipped.state_dir == SHIPPED.parent / "state"


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (table, key)
        for table, settings in (
            *TABLES.values(),
            ("workspace", WorkspaceTable),
            ("state", StateTable),
            ("[limits.hours]", HoursTable),
            ("cohorts.vip", CohortSettings),
            ("cohorts.vip.exclude", ExcludeSettings),
            ("connections.warehouse", ConnectionTable),
            ("queries.audiences", QueryTable),
        )
        for key in key_fields(settings)
    ],
)
def test_every_key_stands_in_what_ships(table: str, key: str) -> None:
    _, _, rest = re.split(
        rf"^(# )?\[{re.escape(table)}\]$", SHIPPED.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    lines = re.split(r"^(?:# )?\[", rest, maxsplit=1, flags=re.MULTILINE)[0]
    assert re.search(rf"^(# )?{key} = ", lines, flags=re.MULTILINE)


@pytest.fixture
def uncommented(tmp_path: Path) -> Path:
    """Return a copy in which every key and table is set."""
    text = SHIPPED.read_text(encoding="utf-8")
    file = tmp_path / "config.toml"
    text = re.sub(r"^# (\w+ = |\[)", r"\1", text, flags=re.MULTILINE)
    file.write_text(text, encoding="utf-8")
    return file


def test_the_keys_that_are_commented_out_are_known_too(uncommented: Path) -> None:
    tables = tomllib.loads(uncommented.read_text(encoding="utf-8"))
    assert {"api_key_file", "data_center"} < set(tables["workspace"])
    assert list(tables)[: len(key_fields(TopLevel))] == [*key_fields(TopLevel)]
    project = load_project(uncommented, need_credentials=False, environ={})
    assert project.shared.workspace.endpoint.is_loopback
    assert project.cohorts["vip"].cohort.name == "VIP customers"
    assert project.cohorts["vip"].guards.max_removals == 0.2


def test_the_keys_of_the_commented_cohort_equal_the_defaults(uncommented: Path) -> None:
    cohort = load_project(uncommented, need_credentials=False, environ={}).cohorts["vip"]
    free = {"key", "file", "name", "description", "source", "column", "workspace", "deadline"}
    free |= {"id", "expect_every", "owner", "tags", "wait_for", "guards", "exclude"}
    free |= {"after", "marker"}
    bare = CohortSettings()
    for each in fields(CohortSettings):
        if each.name not in free:
            assert getattr(cohort, each.name) == getattr(bare, each.name), each.name


def test_what_ships_sends_to_the_emulator_and_holds_no_key(shipped: Config) -> None:
    assert shipped.workspace.endpoint.label == "EMULATOR 127.0.0.1:8765"
    assert shipped.workspace.id == "DEMO"
    assert shipped.workspace.api_key is None
    assert shipped.notes == ()


def test_what_the_larger_limit_gains_is_the_share_that_stands_there() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert re.search(rf"carry {131_072 / 128_000 - 1:.1%}".replace("%", " %"), text)
