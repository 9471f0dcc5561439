"""Snowflake and BigQuery as their drivers show them, on a DuckDB file.

Each statement has to parse in the SQL of the warehouse, and is refused if the warehouse would
refuse it, as far as that is known here. What is left is translated and run.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from sqlglot import ErrorLevel, exp

DDL = (exp.Create, exp.Drop)
CHANGES = (exp.Update, exp.Delete)
ENDS = (exp.Commit, exp.Rollback)
KNOWN = (exp.Query, exp.Insert, exp.Transaction, *DDL, *CHANGES, *ENDS)


class RefusedError(Exception):
    """The warehouse would refuse a statement."""


@dataclass(frozen=True)
class Understood:
    """A statement of a warehouse."""

    kind: type[exp.Expr]
    text: str
    """The same for DuckDB."""
    refusal: str | None
    changed: str | None
    """The table that it changes rows of."""


@lru_cache(maxsize=500)
def understood(statement: str, dialect: str) -> Understood:
    """Parse a statement as a warehouse does."""
    [tree] = sqlglot.parse(statement, read=dialect, error_level=ErrorLevel.RAISE)
    assert tree is not None
    why = refusal(tree, dialect)
    changed = tree.this.sql() if isinstance(tree, CHANGES) else None
    for each in tree.find_all(exp.Table):
        if "information_schema" in each.sql().lower():
            each.replace(exp.table_(each.name.rpartition(".")[2], db="information_schema"))
    text = tree.sql("duckdb", unsupported_level=ErrorLevel.IGNORE)
    return Understood(type(tree), text, why, changed)


def refusal(tree: exp.Expr, dialect: str) -> str | None:
    """Return why a warehouse would refuse a statement."""
    is_catalog = any(
        "information_schema" in each.sql().lower() for each in tree.find_all(exp.Table)
    )
    checks = {
        "an unknown statement": not isinstance(tree, KNOWN),
        "RETURNING": tree.find(exp.Returning),
        "ON CONFLICT": tree.find(exp.OnConflict),
        "DELETE USING": isinstance(tree, exp.Delete) and tree.args.get("using"),
        "an enforced key": tree.find(exp.PrimaryKeyColumnConstraint, exp.PrimaryKey),
        # Snowflake makes such names upper-case, and some of them are reserved words.
        "a name without quotes": not is_catalog
        and any(not each.quoted for each in tree.find_all(exp.Identifier) if each.name != "time"),
    }
    if dialect == "bigquery":
        text = tree.sql("bigquery")
        checks |= {
            "a temporary table": tree.find(exp.TemporaryProperty),
            "WHERE without FROM": any(
                each.args.get("where") and not (each.args.get("from_") or each.args.get("from"))
                for each in tree.find_all(exp.Select)
            ),
            "a type": re.search(r"\b(BYTEA|VARBINARY|TEXT|VARCHAR)\b", text),
            "a correlation without an equality": any(
                not each.find(exp.EQ) for each in tree.find_all(exp.Exists)
            ),
            "a table without a dataset": any(
                not each.db and each.name not in {cte.alias for cte in tree.find_all(exp.CTE)}
                for each in tree.find_all(exp.Table)
            ),
        }
    return next((name for name, found in checks.items() if found), None)


class Simulation:
    """One session of a warehouse."""

    def __init__(self, path: Path, dialect: str) -> None:
        import duckdb  # noqa: PLC0415 - an extra

        self.error = duckdb.Error
        self.dialect = dialect
        self.connection = duckdb.connect(str(path))
        self.statements: list[str] = []
        self._path = path
        self.is_in_transaction = False

    def run(self, statement: str) -> Any:  # noqa: ANN401 - DuckDB ships few types
        """Run a statement; return what DuckDB returns."""
        self.statements.append(statement)
        if statement.startswith(("ALTER SESSION", "USE SCHEMA", "CALL BQ.ABORT_SESSION")):
            return self.connection
        found = understood(statement, self.dialect)
        why = found.refusal or (
            self.is_in_transaction and found.kind in DDL and "a table is made in a transaction"
        )
        if why:
            raise RefusedError(f"{self.dialect} does not know {why}: {statement}")
        if found.kind is exp.Transaction:
            self.is_in_transaction = True
        elif found.kind in ENDS:
            self._release()
        elif found.changed is not None:
            self._lock(found.changed)
        if issubclass(found.kind, exp.Query):
            return self.connection.sql(found.text)
        return self.connection.execute(found.text)

    def _lock(self, table: str) -> None:
        """Let no other session change a table until the transaction ends."""
        if _LOCKS.get((self._path, table), self) is not self:
            # Snowflake says so after a while, BigQuery at once.
            raise self.error(
                "Lock timeout"
                if self.dialect == "snowflake"
                else "Transaction is aborted due to concurrent update against table"
            )
        if self.is_in_transaction:
            _LOCKS[self._path, table] = self

    def _release(self) -> None:
        self.is_in_transaction = False
        for place, holder in list(_LOCKS.items()):
            if holder is self:
                del _LOCKS[place]

    def close(self) -> None:
        """End the session, and its transaction."""
        self._release()
        self.connection.close()

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table."""
        if self.is_in_transaction:
            raise RefusedError("rows are loaded in a transaction")
        self.connection.register("loaded", rows)
        names = ", ".join(f'"{each}"' for each in rows.column_names)
        self.connection.execute(f"insert into {table} ({names}) select {names} from loaded")
        self.connection.unregister("loaded")


_LOCKS: dict[tuple[Path, str], Simulation] = {}


def wide(found: pa.Table) -> pa.Table:
    """Return a result in which all integers have eight bytes."""
    types = [pa.int64() if pa.types.is_integer(each) else each for each in found.schema.types]
    return found.cast(pa.schema(list(zip(found.column_names, types, strict=True))))


class SnowflakeCursor:
    """A cursor of ADBC."""

    def __init__(self, session: Simulation) -> None:
        self._session = session
        self._result: Any = None
        self.adbc_statement = SimpleNamespace(set_options=lambda **_: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, statement: str) -> None:
        with adbc_errors(self._session):
            self._result = self._session.run(statement)

    def fetchall(self) -> list[tuple[Any, ...]]:
        with adbc_errors(self._session):
            found: list[tuple[Any, ...]] = self._result.fetchall()
            return found

    @contextmanager
    def fetch_record_batch(self) -> Iterator[Iterator[pa.RecordBatch]]:
        yield iter(wide(self._result.to_arrow_table()).to_batches(1000))

    def adbc_ingest(self, table: str, rows: pa.Table, mode: str) -> None:
        assert mode == "append"
        with adbc_errors(self._session):
            self._session.load(f'"{table}"', rows)

    def adbc_cancel(self) -> None:
        self._session.connection.interrupt()


@contextmanager
def adbc_errors(session: Simulation) -> Iterator[None]:
    """Raise errors of DuckDB as the driver manager of ADBC does."""
    from adbc_driver_manager import AdbcStatusCode, OperationalError  # noqa: PLC0415 - an extra

    try:
        yield
    except session.error as error:
        raise OperationalError(str(error), status_code=AdbcStatusCode.INTERNAL) from error


class BigQueryClient:
    """The client of Google."""

    project = "marts"

    def __init__(self, path: Path) -> None:
        self.session = Simulation(path, "bigquery")
        self._id: str | None = None

    def get_dataset(self, name: str) -> None:
        from google.api_core.exceptions import NotFound  # noqa: PLC0415 - an extra

        query = "select 1 from information_schema.schemata where schema_name = ?"
        if not self.session.connection.execute(query, [name]).fetchall():
            raise NotFound(name)

    def create_dataset(self, name: str, *, exists_ok: bool) -> None:
        assert exists_ok
        self.session.connection.execute(f"create schema if not exists {name}")

    def query(self, statement: str, job_config: Any) -> "BigQueryJob":  # noqa: ANN401
        if job_config.create_session:
            self._id = "s1"
            return BigQueryJob(self.session, None, self._id)
        [found] = job_config.connection_properties
        assert (found.key, found.value) == ("session_id", self._id)
        return BigQueryJob(self.session, statement, self._id)

    def load_table_from_file(
        self,
        file: IO[bytes],
        table: str,
        *,
        rewind: bool,
        job_config: Any,  # noqa: ANN401
    ) -> "BigQueryJob":
        assert rewind
        assert (job_config.source_format, job_config.write_disposition) == (
            "PARQUET",
            "WRITE_APPEND",
        )
        file.seek(0)
        self.session.load(table.removeprefix("marts."), pq.read_table(file))
        return BigQueryJob(self.session, None, self._id)

    def close(self) -> None:
        self.session.close()


class BigQueryJob:
    """A job, and its result."""

    def __init__(self, session: Simulation, statement: str | None, session_id: str | None) -> None:
        self._session = session
        self._statement = statement
        self._rows = pa.table({})
        self.session_info = SimpleNamespace(session_id=session_id)

    def result(self) -> "BigQueryJob":
        if self._statement is not None:
            with google_errors(self._session):
                found = self._session.run(self._statement)
                if found is not self._session.connection:
                    self._rows = wide(found.to_arrow_table())
        return self

    def __iter__(self) -> Iterator[dict[int, Any]]:
        for row in self._rows.to_pylist():
            yield dict(enumerate(row.values()))

    def to_arrow_iterable(self, reader: object) -> Iterator[pa.RecordBatch]:
        assert reader is not None
        return iter(self._rows.to_batches(1000))

    def cancel(self) -> None:
        self._session.connection.interrupt()


@contextmanager
def google_errors(session: Simulation) -> Iterator[None]:
    """Raise errors of DuckDB as those of a job."""
    from google.api_core.exceptions import BadRequest  # noqa: PLC0415 - an extra

    try:
        yield
    except session.error as error:
        raise BadRequest(str(error)) from error


@contextmanager
def simulated(dialect: str, path: Path) -> Iterator[list[Simulation]]:
    """Let the drivers of a warehouse connect to a DuckDB file; yield the sessions begun so far."""
    begun: list[Simulation] = []
    with pytest.MonkeyPatch.context() as patch:
        if dialect == "snowflake":

            def connect(db_kwargs: dict[str, str], *, autocommit: bool) -> SimpleNamespace:
                assert autocommit
                assert db_kwargs["uri"] == "reader@account/marts"
                session = Simulation(path, "snowflake")
                begun.append(session)
                return SimpleNamespace(cursor=lambda: SnowflakeCursor(session), close=session.close)

            package, module = ModuleType("adbc_driver_snowflake"), SimpleNamespace(connect=connect)
            package.dbapi = module  # type: ignore[attr-defined] # it has none yet
            patch.setitem(sys.modules, "adbc_driver_snowflake", package)
            patch.setitem(sys.modules, "adbc_driver_snowflake.dbapi", module)
        else:

            def client(project: str, location: str | None) -> BigQueryClient:
                assert (project, location) == ("marts", "EU")
                found = BigQueryClient(path)
                begun.append(found.session)
                return found

            patch.setattr("google.cloud.bigquery.Client", client)
            patch.setattr("google.cloud.bigquery_storage.BigQueryReadClient", object)
        yield begun


URLS = {
    "snowflake": "snowflake://reader@account/marts",
    "bigquery": "bigquery://marts?location=EU",
}
