"""Runs a query on the database of a connection, whatever its kind."""

from contextlib import AbstractContextManager

from engine.errors import MissingExportError
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.changes import in_order, notation_of
from engine.source.sql.connection import Connection
from engine.source.sql.driver_errors import Said, needing
from engine.source.sql.query import Query
from engine.source.sql.result import Result
from engine.source.urls import passwords_in

_ADBC = {
    "postgresql": "postgres",
    "postgres": "postgres",
    "snowflake": "snowflake",
    "bigquery": "bigquery",
}
"""The extra of each scheme that a driver of ADBC reads."""


def run_query(
    connection: Connection, query: Query, cancellation: Cancellation, *, is_check: bool = False
) -> AbstractContextManager[Result]:
    """Connect, run a query in a read-only transaction where there is one, and yield its result.

    The rows are read as the database sends them; with `is_check` there are none. Those of a list of
    changes come in their order, with the column `ACTION`. When the block
    ends, the connection is closed; a request of `cancellation` ends the query. Raises
    `SourceError`, `ConfigError` for a password that cannot be read, and `UsageError` for a driver
    that is not installed.
    """
    password = connection.password()
    url = connection.url_with(password)
    text = query.statement
    if is_check:
        text = f"SELECT * FROM (\n{text}\n) checked WHERE 1 = 0"  # noqa: S608 - the user's own
    elif query.lists_changes and (connection.path is not None or connection.scheme in _ADBC):
        text = in_order(text, query, notation_of(connection.scheme))
    secrets = (*([] if password is None else [password]), *passwords_in(connection.url))
    said = Said(query.name, (query.text, connection.shown), secrets)
    if connection.path is not None:
        if not connection.path.exists():
            raise MissingExportError(f"{query.name}: {connection.path}: no such file")
        if connection.scheme == "sqlite":
            from engine.source.sql import sqlite_file  # noqa: PLC0415 - only if it is used

            return sqlite_file.run(connection.path, text, said, cancellation)
        from engine.source.sql import duckdb_file  # noqa: PLC0415 - only if it is used

        return duckdb_file.run(connection.path, text, said, cancellation, connection.plans)
    if (kind := _ADBC.get(connection.scheme)) is not None:
        with needing(kind, f"a {connection.scheme}:// connection"):
            from engine.source.sql import adbc  # noqa: PLC0415 - an extra

        driver = {
            "postgres": adbc.postgres,
            "snowflake": adbc.snowflake,
            "bigquery": adbc.bigquery,
        }[kind](url)
        return adbc.run(driver, text, said, cancellation)
    from engine.source.sql import alchemy  # noqa: PLC0415 - an extra

    changes = query if query.lists_changes and not is_check else None
    return alchemy.run(url, text, said, cancellation, changes)
