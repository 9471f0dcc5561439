"""The statements of `engine.planning.database.statements` in the SQL of a warehouse, by sqlglot."""

from functools import lru_cache
from typing import Literal

import sqlglot
from sqlglot import ErrorLevel, exp

from engine.planning.database.statements import SCHEMA

Dialect = Literal["snowflake", "bigquery", "trino", "databricks"]
"""Those of which the queries of a comparison are compiled and checked. Trino and Databricks have no
transactions over several tables, so that no snapshot can move there."""

_EXPIRING = """
    create table t options (
        expiration_timestamp = timestamp_add(current_timestamp(), interval 1 day)
    )
"""
"""Where the options of such a table are taken from."""


@lru_cache(maxsize=64)
def translated(statement: str, dialect: Dialect, prefix: str | None = None) -> str:
    """Return a statement in a dialect, with all names in quotes.

    With a `prefix`, temporary tables are tables of `SCHEMA` whose names start with it, and which
    the database deletes after a day.
    """
    found = sqlglot.parse_one(statement, read="postgres")
    if any(each.db == "information_schema" for each in found.find_all(exp.Table)):
        return _catalog_query(found, dialect)
    if prefix is not None:
        _keep_temporary_tables(found, prefix)
    return found.sql(dialect, identify=True, unsupported_level=ErrorLevel.RAISE)


def _catalog_query(query: exp.Expr, dialect: Dialect) -> str:
    """Return a query of the tables that exist; these views have upper-case names."""
    for table in query.find_all(exp.Table):
        if dialect == "bigquery":  # It has them in each dataset.
            table.replace(exp.table_("TABLES", db="INFORMATION_SCHEMA", catalog=SCHEMA))
    return query.sql(dialect, unsupported_level=ErrorLevel.RAISE)


def _keep_temporary_tables(statement: exp.Expr, prefix: str) -> None:
    names = {each.alias for each in statement.find_all(exp.CTE)}
    for table in statement.find_all(exp.Table):
        if not table.db and table.name not in names:
            table.set("this", exp.to_identifier(prefix + table.name))
            table.set("db", exp.to_identifier(SCHEMA))
    if isinstance(statement, exp.Create) and statement.find(exp.TemporaryProperty):
        expiring = sqlglot.parse_one(_EXPIRING, read="bigquery")
        statement.set("properties", expiring.args["properties"])
