"""Every value of the configuration has bounds; a value beyond them is one clear line."""

import re
from pathlib import Path

import pytest

from engine.config.cohort_settings import CohortSettings, ExcludeSettings
from engine.config.connections import ConnectionTable
from engine.config.loading import TABLES, Config, load
from engine.config.queries import QueryTable
from engine.config.settings import StateTable, WorkspaceTable
from engine.config.toml_settings import key_fields
from engine.errors import ConfigError
from engine.planning.settings import GuardSettings

KEYS = [
    (table, key)
    for table, settings in (
        *TABLES.values(),
        ("workspace", WorkspaceTable),
        ("state", StateTable),
        ("cohorts.c", CohortSettings),
        ("cohorts.c.guards", GuardSettings),
        ("cohorts.c.exclude", ExcludeSettings),
        ("connections.c", ConnectionTable),
        ("queries.c", QueryTable),
    )
    for key in key_fields(settings)
]
VALUES = {
    "zero": "0",
    "below zero": "-1",
    "2**63 - 1": "9223372036854775807",
    "2**63": "9223372036854775808",
    "400 digits": "1" + "0" * 400,
    "1e308": "1e308",
    "1e-308": "1e-308",
    "below zero, not whole": "-0.5",
    "nan": "nan",
    "inf": "inf",
    "-inf": "-inf",
    "true": "true",
    "empty": '""',
    "blank": '" "',
    "long": '"' + "x" * 100_000 + '"',
    "long path": '"' + "a/" * 3000 + '"',
    "NUL": r'"a\u0000b"',
    "control characters": r'"a\u001b[31m\u0085b"',
    "list": "[]",
    "long list": "[" + "1, " * 1000 + "1]",
    "list of texts": '["a", "b"]',
    "table": "{}",
    "date": "2026-11-27",
}
PYDANTIC = re.compile(r"(?i)input should|value error|valid (integer|number|string)|pydantic|finite")
ENVIRONMENT = {"MOENGAGE_API_KEY": "k"}


CHANGES = {"action_column", "order_column"}
"""Keys that need each other."""


def loaded(folder: Path, table: str, key: str, value: str) -> Config | list[str]:
    """Read a configuration that sets one key, and return it or its problems."""
    workspace = {"id": '"DEMO"', "endpoint": '"http://127.0.0.1:9"'}
    cohort = {"name": '"C"', "source": '"c.csv"', "wait_for": "true"}
    tables: dict[str, dict[str, str]] = {"workspace": workspace, "cohorts.c": cohort}
    tables |= {"cohorts.c.exclude": {"source": '"e.csv"'}} if table == "cohorts.c.exclude" else {}
    if table in {"connections.c", "queries.c"}:
        tables["connections.c"] = {"url": '"sqlite:c.db"'}
    if table == "queries.c":
        tables[table] = {"connection": '"c"', "query": '"select 1"', "cohort_column": '"c"'}
        if key in CHANGES:
            tables[table] |= dict.fromkeys(CHANGES, '"c"')
    tables.setdefault(table, {})[key] = value
    lines = [
        f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in t.items()) for name, t in tables.items()
    ]
    path = folder / "config.toml"
    path.write_text("".join(lines), encoding="utf-8")
    try:
        return load(path, environ=ENVIRONMENT)
    except ConfigError as error:
        return error.message.splitlines()


TEXTS = {"uid_pattern", "id", "name", "description", "column", "owner"}
TEXTS |= {"push_url", "address", "url", "connection", "cohort_column", *CHANGES}
"""Keys with text of any length, in which a long path is valid; a pattern may match a NUL."""
BEYOND = {"2**63 - 1", "2**63", "400 digits", "1e308", "nan", "inf", "-inf", "NUL", "long path"}
"""What no other key takes."""


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_a_value_beyond_all_bounds_is_one_clear_line(tmp_path: Path, table: str, key: str) -> None:
    for name, value in VALUES.items():
        found = loaded(tmp_path, table, key, value)
        if isinstance(found, Config):
            assert name not in BEYOND or key in TEXTS
            continue
        [line] = found
        assert line.startswith(f"{tmp_path / 'config.toml'}: `{table}.{key}` "), name
        assert not PYDANTIC.search(line)
        assert len(line) - len(str(tmp_path)) < 250
        assert line.isprintable()
