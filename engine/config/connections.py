"""Reads the tables `connections.NAME`: the databases that queries are sent to."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from engine.config.config_file import ConfigFile
from engine.config.credentials import Credentials, variable_suffix
from engine.config.toml_settings import dotted
from engine.config.variables import Keys
from engine.model.secret import Secret
from engine.model.setting_values import SHOULD_BE_COMMAND, SHOULD_BE_TEXT, Command, Text
from engine.source.sql.connection import Connection, url_problem
from engine.source.urls import passwords_in, redacted
from engine.storage.settings import PlanningSettings

PASSWORD_VARIABLE = "COHORTSYNC_PASSWORD"  # noqa: S105 - the start of a variable's name
_SYSTEMD_NAME = "cohortsync_password"


@dataclass(frozen=True, slots=True)
class ConnectionTable:
    """A connection to a database, which queries name."""

    url: Text | None = field(default=None, metadata=SHOULD_BE_TEXT | {"is_secret": True})
    """Where the database is: postgresql://USER@HOST/DATABASE, snowflake://…, bigquery://…,
    sqlite:FILE, duckdb:FILE, or a URL of SQLAlchemy; for `plan.engine`, also the master of a Spark
    cluster, as spark://HOST:7077, or spark:local[*] for this machine. Its password is not written
    here. Required."""
    password_file: str | None = None
    """The path of a file that holds the password alone, mode 0600."""
    password_command: Command | None = field(default=None, metadata=SHOULD_BE_COMMAND)
    """A program and its arguments, run without a shell: it prints the password."""
    spool_megabytes: Annotated[int, Ge(1), Le(100_000_000)] = 20_000
    """The most disk that the result of one query may take, below the state folder."""


def read_connections(
    file: ConfigFile, environ: Mapping[str, str] = os.environ
) -> dict[str, Connection]:
    """Return the connections by name; an invalid one is a problem in the file."""
    names = file.tables.names(("connections",)) if file.tables.holds(("connections",)) else []
    found = (_read(file, ("connections", name), environ) for name in names)
    return {each.name: each for each in found if each is not None}


def _read(file: ConfigFile, at: Keys, environ: Mapping[str, str]) -> Connection | None:
    tables, name = file.tables, at[-1]
    table = tables.read(at, ConnectionTable)
    if not tables.is_table(at):
        return None
    url_at = (*at, "url")
    if table.url is None:
        if not tables.holds(url_at):
            tables.refuse(url_at, "is needed: the URL of the database")
        return None
    if passwords_in(tables.fixed_text(url_at)):
        tables.refuse(
            url_at,
            "holds a password, which does not belong in a file that is copied, shared and "
            f"versioned: put it into a file of its own (mode 0600), name that as "
            f"`{dotted((*at, 'password_file'))}`, and leave it out here",
        )
        return None
    if problem := url_problem(table.url):
        tables.refuse(url_at, problem)
        return None
    credentials = _credentials(file, at, table)

    def password() -> str | None:
        found = credentials.read(environ)
        return None if found is None else found.reveal()

    return Connection(name, table.url, file.folder, password, table.spool_megabytes)


def _credentials(file: ConfigFile, at: Keys, table: ConnectionTable) -> Credentials[Secret]:
    command = table.password_command or ()
    return Credentials(
        kind=Secret,
        key="password",
        label=file.tables.label,
        table=dotted(at),
        variable=f"{PASSWORD_VARIABLE}_{variable_suffix(at[-1])}",
        systemd_name=f"{_SYSTEMD_NAME}_{at[-1]}",
        folder=file.folder,
        file=file.path_in((*at, "password_file"), table.password_file),
        command=command,
        secrets=command[1:] if file.tables.variables((*at, "password_command")) else (),
    )


_SCHEMES = {
    "duckdb": ("duckdb",),
    "postgres": ("postgresql", "postgres"),
    "spark": ("spark",),
    "snowflake": ("snowflake",),
    "bigquery": ("bigquery",),
}
"""The schemes of the connections of each engine."""
_UNSAFE = ("databricks", "trino")
"""Schemes of databases whose transactions are of one table."""
_GLOB = frozenset("{}[]*?\\")
"""Characters that Spark reads as a pattern of names."""


def check_engine(
    file: ConfigFile, settings: PlanningSettings, connections: Mapping[str, Connection]
) -> None:
    """Add a problem unless the connection of the engine of plans fits the engine."""
    at = ("plan", "connection")
    schemes = _SCHEMES.get(settings.engine)
    if schemes is None:
        return
    if settings.connection is None:
        file.tables.refuse(
            ("plan", "engine"), "needs `plan.connection`: the name of a table of `connections`"
        )
        return
    found = connections.get(settings.connection)
    if found is None:
        if not file.tables.holds(("connections", settings.connection)):
            file.tables.refuse(at, f"names no table of `connections`: {settings.connection}")
    elif found.scheme in _UNSAFE:
        file.tables.refuse(
            at,
            f"names a {found.scheme}: connection, which can be read but cannot keep snapshots: a "
            "transaction there is of one table, and a snapshot moves in four; compare with engine "
            '= "local" or "spark", and read the export by a query',
        )
    elif found.scheme not in schemes:
        clause = f'should name a {schemes[0]}: connection, as engine = "{settings.engine}"'
        file.tables.refuse(at, clause)
    if settings.engine == "spark":
        _check_lake(file, settings.lake)


def _check_lake(file: ConfigFile, lake: str | None) -> None:
    if lake is None:
        file.tables.refuse(
            ("plan", "engine"), "needs `plan.lake`: where Spark and this machine keep snapshots"
        )
    elif found := _GLOB.intersection(lake):
        file.tables.refuse(("plan", "lake"), f"may not contain {min(found)}")
    elif redacted(lake) != lake:
        file.tables.refuse(
            ("plan", "lake"), "may have no credentials in its URL: put them into the environment"
        )
