"""A ledger of an older version, presented to a reader as one of the present version.

Only a writer migrates. A table or column that a reader queries and the older version lacks becomes
a temporary view or an empty temporary table of the reader's connection. SQLite finds these before
the ledger's tables.
"""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache

_COMPUTED = {("batch", "leg"): "(SELECT action FROM main.run AS r WHERE r.run = t.run)"}
"""The value that a migration gives a new column, if it is not the column's default."""


def show_as_present(connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    """Present the tables of a ledger as they will be after the migration."""
    connection.execute("PRAGMA temp_store = MEMORY")
    for name, (statement, columns) in _present(tuple(migrations)).items():
        there = {row[1] for row in connection.execute(f"PRAGMA main.table_info({name})")}
        missing = columns.keys() - there
        if not there:
            connection.execute(re.sub(r"^CREATE TABLE", "CREATE TEMP TABLE", statement))
        elif missing:
            added = "".join(
                f", {_COMPUTED.get((name, column), columns[column])} AS {column}"
                for column in sorted(missing)
            )
            connection.execute(
                f"CREATE TEMP VIEW {name} AS SELECT t.*{added} FROM main.{name} AS t"  # noqa: S608 - our own names
            )


@cache
def _present(migrations: tuple[str, ...]) -> Mapping[str, tuple[str, Mapping[str, str]]]:
    """Return the statement that creates each table, and its columns with their defaults."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("".join(migrations))
        tables = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        return {
            name: (
                statement,
                {
                    row[1]: "NULL" if row[4] is None else str(row[4])
                    for row in connection.execute(f"PRAGMA table_info({name})")
                },
            )
            for name, statement in tables
        }
