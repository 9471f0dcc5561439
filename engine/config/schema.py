"""The JSON Schema of config.toml, made from the settings classes, for editors."""

import ast
import inspect
import json
import textwrap
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any

from engine.config.cohort_settings import CohortSettings, ExcludeSettings
from engine.config.connections import ConnectionTable
from engine.config.lake_tables import DeltaSource, IcebergSource
from engine.config.limits import HoursTable
from engine.config.loading import TABLES
from engine.config.queries import QuerySource, QueryTable
from engine.config.settings import StateTable, TopLevel, WorkspaceTable
from engine.config.toml_settings import adapter_of, key_fields
from engine.model.setting_values import SOME_TEXT

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = type[DataclassInstance]

Schema = dict[str, Any]
_NOT_BLANK = SOME_TEXT["pattern"]
_HAS_VARIABLE = {"type": "string", "pattern": r"\$\{"}
"""A text with a variable, whose value only a run knows."""


def config_schema() -> Schema:
    """Return the schema (draft 2020-12) of config.toml and of the files that it includes.

    It refuses unknown keys and invalid values. It does not require any key, since an included file
    has cohorts only, and the environment may set a workspace.
    """
    tables: dict[str, list[Settings]] = {"state": [StateTable]}
    for name, settings in TABLES.values():
        tables.setdefault(name, []).append(settings)
    workspace = _table(WorkspaceTable, limits={"$ref": "#/$defs/limits"})
    cohort = _table(
        CohortSettings,
        guards={"$ref": "#/$defs/guards"},
        exclude=_exclude(),
        source=_source(CohortSettings),
    )
    cohort["required"] = ["name", "source"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of cohortsync",
        **_table(
            TopLevel,
            workspace={"$ref": "#/$defs/workspace"},
            workspaces=_named({"$ref": "#/$defs/workspace"}, "Several workspaces, by name."),
            **{name: {"$ref": f"#/$defs/{name}"} for name in sorted(tables)},
            connections=_named(_connection(), "Databases that queries are sent to, by name."),
            queries=_named(_query(), "Queries for the exports of several cohorts, by name."),
            cohorts=_named({"$ref": "#/$defs/cohort"}, "The cohorts, by name."),
        ),
        "$defs": {
            "workspace": workspace,
            "cohort": cohort,
            **{
                name: _table(*classes, **({"hours": _hours()} if name == "limits" else {}))
                for name, classes in sorted(tables.items())
            },
        },
        "not": {"required": ["workspace", "workspaces"]},
    }


def schema_text() -> str:
    """Return the schema as the content of a file."""
    return json.dumps(config_schema(), indent=2) + "\n"


def _exclude() -> Schema:
    return _table(ExcludeSettings, source=_source(ExcludeSettings)) | {"required": ["source"]}


def _source(settings: "Settings") -> Schema:
    """Return the schema of the key `source`: texts, or the table of a query or of a lake."""
    described = _key(settings, "source", _descriptions(settings)["source"])
    query = _table(QuerySource)
    query["oneOf"] = [{"required": ["connection", "query"]}, {"required": ["shared_query"]}]
    query["dependentRequired"] = _CHANGES
    delta = _table(DeltaSource) | {"required": ["delta"]}
    iceberg = _table(IcebergSource) | {"required": ["iceberg"]}
    for lake in (delta, iceberg):
        *_, number, time = lake["properties"]
        lake["not"] = {"required": [number, time]}
    return described | {"anyOf": [*described["anyOf"], query, delta, iceberg]}


def _connection() -> Schema:
    return _table(ConnectionTable) | {"required": ["url"]}


_CHANGES: Schema = {"action_column": ["order_column"], "order_column": ["action_column"]}
"""Keys that need each other."""


def _query() -> Schema:
    required = ["connection", "query", "cohort_column"]
    return _table(QueryTable) | {"required": required, "dependentRequired": _CHANGES}


def _hours() -> Schema:
    required = {"required": list(key_fields(HoursTable))}
    return {
        "type": "array",
        "description": "Hours in which another ceiling holds; they may not overlap.",
        "items": _table(HoursTable) | required,
    }


def _named(table: Schema, description: str) -> Schema:
    return {"type": "object", "description": description, "additionalProperties": table}


def _table(*classes: "Settings", **tables: Schema) -> Schema:
    """Return the schema of a table with the keys of settings classes, and with tables in it."""
    keys = {
        key: _key(settings, key, descriptions.get(key))
        for settings in classes
        for descriptions in (_descriptions(settings),)
        for key in key_fields(settings)
    }
    return {
        "type": "object",
        "description": " ".join(inspect.getdoc(each) or "" for each in classes),
        "additionalProperties": False,
        "properties": keys | tables,
    }


def _key(settings: "Settings", key: str, description: str | None) -> Schema:
    values = _values(adapter_of(settings, key).json_schema())
    field = key_fields(settings)[key]
    found: Schema = {} if description is None else {"description": description}
    if field.default not in {MISSING, None, ""} and isinstance(field.default, str | int | float):
        found["default"] = field.default
    return found | values


def _values(schema: Schema) -> Schema:
    """Return a schema without null, which TOML lacks, in which a text may hold a variable."""
    alternatives = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    if alternatives:
        flat = [_values(each) for each in alternatives]
        return flat[0] if len(flat) == 1 else {"anyOf": flat}
    if schema.get("type") == "array" and "items" in schema:
        return schema | {"items": _values(schema["items"])}
    if "enum" in schema or "const" in schema or schema.get("pattern", _NOT_BLANK) != _NOT_BLANK:
        return {"anyOf": [schema, _HAS_VARIABLE]}
    return schema


def _descriptions(settings: "Settings") -> dict[str, str]:
    """Return the docstring of each field of a settings class."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - a fact about our own source, for mypy
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        match before, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name.removesuffix("_")] = " ".join(text.split())
            case _:
                pass
    return found
