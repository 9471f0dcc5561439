"""A PostgreSQL server of the tests' own: on a Unix socket in a temporary folder, or not at all."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SUPERUSER, READER, PASSWORD = "postgres", "reader", "tok-en/5%"
_HBA = f"local all {SUPERUSER} trust\nlocal all all scram-sha-256\n"
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "autovacuum": "off",
}
_INITDB = ("-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8")
_INITDB += ("--no-sync", "--no-instructions")
_ACCOUNTS = ("nobody", "postgres")
"""Users that the server may run as if the tests run as root, which PostgreSQL refuses."""


@cache
def binaries() -> Path | None:
    """Return the folder of `initdb` and `postgres`; None if PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    on_path = shutil.which("initdb")
    places = [*reversed(found), *([Path(on_path)] if on_path else [])]
    return next((each.parent for each in places if (each.parent / "postgres").exists()), None)


def _version(initdb: Path) -> int:
    name = initdb.parts[-3]
    return int(name) if name.isdigit() else 0


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server with the database `marts`, and a reader who has a password."""

    folder: Path
    process: "subprocess.Popen[str]"
    _connected: dict[str, Any] = field(default_factory=dict)
    """The superuser's connection to each database."""

    @property
    def url(self) -> str:
        """The URL of the superuser, who needs no password."""
        return self.url_of(SUPERUSER)

    def url_of(self, user: str, database: str = "marts") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def execute(self, *statements: str, database: str = "marts") -> list[tuple[Any, ...]]:
        """Run statements as the superuser; return the rows of the last one."""
        import adbc_driver_postgresql.dbapi as postgres  # noqa: PLC0415 - an extra

        if database not in self._connected:
            url = self.url_of(SUPERUSER, database)
            self._connected[database] = postgres.connect(url, autocommit=True)
        with self._connected[database].cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def close(self) -> None:
        """Close the superuser's connections."""
        for connection in self._connected.values():
            connection.close()

    def connections(self) -> int:
        """Return how many others are connected."""
        [[count]] = self.execute(
            "select count(*) from pg_stat_activity where backend_type = 'client backend' "
            "and pid <> pg_backend_pid() and datname = current_database()"
        )
        return int(count)

    def await_idle(self) -> None:
        """Wait until nobody else is connected: a server notices the end of a connection late."""
        for _ in range(500):
            if not self.connections():
                return
            self.execute("select pg_sleep(0.02)")
        raise AssertionError("a connection is left open")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server for the length of the block; skips the test if it cannot."""
    pytest.importorskip("adbc_driver_postgresql")
    folder = binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    as_user: dict[str, Any] = {}
    # Not in TMPDIR: the server's user has to reach it, and the path of a socket may have about 100
    # characters, fewer than pytest's folders have.
    with tempfile.TemporaryDirectory(prefix="cs-pg-", dir="/tmp") as name:
        place = Path(name)
        if os.geteuid() == 0:
            account = _account()
            as_user = {"user": account, "group": _group_of(account), "extra_groups": []}
            shutil.chown(place, account)
        data = place / "data"
        subprocess.run(
            [folder / "initdb", "-D", data, *_INITDB],
            check=True,
            capture_output=True,
            cwd=place,
            **as_user,
        )
        (data / "pg_hba.conf").write_text(_HBA)
        settings = {**_SETTINGS, "unix_socket_directories": str(place)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with subprocess.Popen(
            [folder / "postgres", "-D", data, *options],
            stderr=subprocess.PIPE,
            text=True,
            cwd=place,
            **as_user,
        ) as process:
            try:
                _await_ready(process)
                server = PostgresServer(place, process)
                server.execute("create database marts", database="postgres")
                server.execute(
                    f"create role {READER} login password '{PASSWORD}'",
                    f"grant pg_read_all_data to {READER}",
                )
                yield server
                server.close()
            finally:
                process.send_signal(signal.SIGQUIT)  # It ends at once, without a checkpoint.


def _await_ready(process: "subprocess.Popen[str]") -> None:
    """Read what the server says until it is ready, and the rest in a thread."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "ready to accept connections" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return
    raise AssertionError("".join(said))


def _account() -> str:
    names = {each.pw_name for each in pwd.getpwall()}
    found = next((each for each in _ACCOUNTS if each in names), None)
    if found is None:
        pytest.skip("PostgreSQL does not run as root, and there is no other user")
    return found


def _group_of(account: str) -> int:
    return pwd.getpwnam(account).pw_gid
