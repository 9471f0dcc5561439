"""Runs a query by SQLAlchemy, for databases without a driver of ADBC: MySQL, Redshift, Trino …."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from engine.errors import UsageError
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.changes import Notation, in_order
from engine.source.sql.driver_errors import Said, needing, translated
from engine.source.sql.query import Query
from engine.source.sql.result import BATCH_ROWS, Result, result_of_rows

_READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "redshift": "SET TRANSACTION READ ONLY",
    "cockroachdb": "SET TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = 1",
}
"""What makes a transaction read-only, by the name of the dialect."""


@contextmanager
def run(
    url: str, text: str, said: Said, cancellation: Cancellation, changes: Query | None = None
) -> Iterator[Result]:
    """Run a query with a server-side cursor, if the dialect has one, and yield its result.

    With `changes`, the rows come in the order that it says. Nothing is ever committed. Raises
    `SourceError`, and `UsageError` if SQLAlchemy or the driver is not installed, or for an invalid
    URL.
    """
    with needing("sql", f"a {url.partition(':')[0]}:// connection"):
        import sqlalchemy as sql  # noqa: PLC0415 - an extra
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError  # noqa: PLC0415 - as above
    errors: tuple[type[Exception], ...] = (sql.exc.SQLAlchemyError, OSError)
    try:
        with needing("sql", f"a {url.partition(':')[0]}:// connection"):
            engine = sql.create_engine(url, poolclass=sql.NullPool, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(
            f"{said.name}: SQLAlchemy does not know this kind of URL: {said.line(error)}",
            hint="a dialect is a package of its own: pip install sqlalchemy-redshift, trino …",
        ) from None
    if changes is not None:
        text = in_order(text, changes, _notation(engine.dialect))
    with translated(said, errors, is_open=False):
        connection = engine.connect()
    with closing(connection):
        cancel = getattr(connection.connection.dbapi_connection, "cancel", lambda: None)
        with cancellation.passed_to(cancel):
            with translated(said, errors, is_open=True):
                if (begin := _READ_ONLY.get(engine.dialect.name)) is not None:
                    connection.exec_driver_sql(begin)
                rows = connection.execution_options(
                    stream_results=True, max_row_buffer=BATCH_ROWS
                ).exec_driver_sql(text)

            def chunks() -> Iterator[list[Any]]:
                while True:
                    with translated(said, errors, is_open=True):
                        some = rows.fetchmany(BATCH_ROWS)
                    if not some:
                        return
                    yield list(some)

            with closing(rows):
                yield result_of_rows(list(rows.keys()), chunks())


def _notation(dialect: Any) -> Notation:  # noqa: ANN401 - the class of an extra
    import sqlalchemy as sql  # noqa: PLC0415 - an extra

    def as_text(expression: str) -> str:
        cast = sql.cast(sql.literal_column(expression), sql.String(255))
        return str(cast.compile(dialect=dialect))

    return Notation(dialect.identifier_preparer.quote_identifier, as_text)
