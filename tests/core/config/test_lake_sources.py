"""Tables of a lake as sources: what a cohort's table says becomes the name that a command has."""

import tomllib
from pathlib import Path

import jsonschema
import pytest

from engine.config.loading import load_project
from engine.config.schema import config_schema
from engine.errors import ConfigError

COMMON = '[workspace]\nid = "W"\ndata_center = "01"\n[cohorts.vip]\nname = "VIP"\n'


def source_of(folder: Path, text: str) -> str:
    path = folder / "config.toml"
    path.write_text(f"{COMMON}{text}", encoding="utf-8")
    [source] = load_project(path, need_credentials=False, environ={}).cohorts["vip"].source
    return source


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ('{ delta = "lake/vip" }', "delta:FOLDER/lake/vip"),
        ('"delta:lake/vip@7"', "delta:FOLDER/lake/vip@7"),
        ('{ delta = "/lake/[vip]", version = 0 }', "delta:/lake/[vip]@0"),
        (
            '{ delta = "s3://lake/{date}", at = "{yesterday}T03:00Z" }',
            "delta:s3://lake/{date}@{yesterday}T03:00Z",
        ),
        ('{ iceberg = "prod.crm.vip" }', "iceberg:prod.crm.vip"),
        ('{ iceberg = "prod.crm.vip", snapshot = 17 }', "iceberg:prod.crm.vip@17"),
        (
            '{ iceberg = "prod.crm.vip", at = "2026-11-27 03:00+01:00" }',
            "iceberg:prod.crm.vip@2026-11-27 03:00+01:00",
        ),
    ],
)
def test_a_table_is_named_as_on_the_command_line(tmp_path: Path, source: str, name: str) -> None:
    text = f"source = {source}\n"
    assert source_of(tmp_path, text) == name.replace("FOLDER", str(tmp_path))
    jsonschema.validate(tomllib.loads(COMMON + text), config_schema())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{ delta = "a", version = 1, at = "2026-11-27T03:00Z" }', "`version` exclude each other"),
        ('{ iceberg = "a.b.c", snapshot = 1, at = "{date}T03:00Z" }', "`snapshot` exclude each"),
        ('{ delta = "a", at = "2026-11-27T03:00" }', "at` should be a time with its zone"),
        ('{ delta = "a", at = "{day}T03:00Z" }', "at` should be a time with its zone"),
        ('{ delta = "a", version = -1 }', "version` should be"),
        ('{ delta = "a", snapshot = 1 }', "snapshot"),
        ('{ delta = "a", iceberg = "a.b.c" }', "iceberg"),
        ('{ delta = "" }', "delta` should be text"),
        ('{ delta = "a" }\nformat = "csv"', "`cohorts.vip.format` is for files: a table has"),
        ('"delta:a"\npick = "newest"', "a table is read at its latest version"),
    ],
)
def test_a_mistake_is_named_by_its_key(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        source_of(tmp_path, f"source = {text}\n")
    assert problem in raised.value.message
