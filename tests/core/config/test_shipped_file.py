"""The config.toml that ships says what the code does."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from config_tables import SETTINGS

from engine.config.loading import Config, load

SHIPPED = Path(__file__).parents[3] / "config.toml"


@pytest.fixture
def shipped() -> Config:
    return load(SHIPPED, need_credentials=False, environ={})


def test_no_settings_class_of_the_configuration_is_forgotten_here() -> None:
    others = {"path", "workspace", "state_dir", "notes"}
    assert {field.name for field in fields(Config)} == set(SETTINGS) | others


@pytest.mark.parametrize("name", SETTINGS)
def test_what_ships_equals_the_defaults_of_the_code(shipped: Config, name: str) -> None:
    assert getattr(shipped, name) == SETTINGS[name][1]()


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
        *(
            (table, field.name)
            for table, settings in SETTINGS.values()
            for field in fields(settings)
        ),
        *(
            ("workspace", key)
            for key in ("id", "api_key_file", "data_center", "endpoint", "partner")
        ),
        ("state", "dir"),
    ],
)
def test_every_key_stands_in_what_ships(table: str, key: str) -> None:
    _, _, rest = SHIPPED.read_text(encoding="utf-8").partition(f"\n[{table}]\n")
    lines = re.split(r"^\[", rest, maxsplit=1, flags=re.MULTILINE)[0]
    assert re.search(rf"^(# )?{key} = ", lines, flags=re.MULTILINE)


def test_the_keys_that_are_commented_out_are_known_too(tmp_path: Path) -> None:
    text = re.sub(r"^# (\w+ = )", r"\1", SHIPPED.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {"api_key_file", "data_center"} < set(tomllib.loads(text)["workspace"])
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    assert load(file, need_credentials=False, environ={}).workspace.endpoint.is_loopback


def test_what_ships_sends_to_the_emulator_and_holds_no_key(shipped: Config) -> None:
    assert shipped.workspace.endpoint.label == "EMULATOR 127.0.0.1:8765"
    assert shipped.workspace.id == "DEMO"
    assert shipped.workspace.api_key is None
    assert shipped.notes == ()


def test_what_the_larger_limit_gains_is_the_share_that_stands_there() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert re.search(rf"carry {131_072 / 128_000 - 1:.1%}".replace("%", " %"), text)
