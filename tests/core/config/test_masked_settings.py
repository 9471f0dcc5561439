"""Settings as they are shown to others: no text that somebody has written."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from engine.config.loading import TABLES, Config, load
from engine.config.masked_settings import MASK, masked_settings

SECRET = "a-secret-of-the-user"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(
        '[workspace]\nid = "W"\ndata_center = "01"\n[guards]\nmax_removals = [0.2, 7]\n'
    )
    return load(path, need_credentials=False, environ={})


@pytest.mark.parametrize("secret", [SECRET, Path("/", SECRET), [SECRET], (SECRET,), {SECRET: 1}])
@pytest.mark.parametrize("name", TABLES)
def test_no_text_of_any_table_is_shown(config: Config, name: str, secret: object) -> None:
    table: Any = getattr(config, name)
    filled = replace(table, **{field.name: secret for field in fields(table)})
    shown = masked_settings(replace(config, **{name: filled}))
    assert SECRET not in repr(shown)
    assert MASK in repr(shown[TABLES[name][0]])


def test_numbers_switches_and_defaults_are_shown(config: Config) -> None:
    shown = masked_settings(config)
    assert shown["workspace"] == {
        "id": "W",
        "endpoint": "api-01.moengage.com",
        "partner": "cohortsync",
    }
    assert shown["guards"]["max_removals"] == [0.2, 7]
    assert shown["guards"]["same_shape"] is True
    assert shown["sync"]["on_late"] == "run"
    assert shown["limits"]["requests"] == 300
