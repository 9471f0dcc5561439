"""A session in BigQuery, by Google's client: ADBC's driver neither loads rows nor keeps sessions.

A temporary table of a session cannot be loaded. So there are tables in its place, which BigQuery
deletes after a day, if the session has not.
"""

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from engine.planning.database.failures import Failures
from engine.planning.database.statements import SCHEMA
from engine.source.sql.driver_errors import needing

if TYPE_CHECKING:  # Loaded only with sqlglot.
    from engine.planning.warehouse.dialects import Dialect
    from engine.planning.warehouse.session import WarehouseSession

_NAME = 'plan.engine = "bigquery"'


@contextmanager
def bigquery_session(url: str, failures: Failures) -> Iterator["WarehouseSession"]:
    """Connect to a project: bigquery://PROJECT?location=EU&credentials_file=PATH.

    Raises as `DatabaseSession`, and `UsageError` if the client or sqlglot is not installed.
    """
    with needing("bigquery", _NAME):
        from google.api_core.exceptions import GoogleAPIError, NotFound  # noqa: PLC0415 - an extra
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - an extra
        from google.cloud import bigquery, bigquery_storage  # noqa: PLC0415 - an extra

        from engine.planning.warehouse.session import WarehouseSession  # noqa: PLC0415 - an extra
    errors = (GoogleAPIError, GoogleAuthError, pa.ArrowException, OSError)
    client_of: Any = bigquery.Client
    reader_of: Any = bigquery_storage.BigQueryReadClient
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    where = {"project": parts.hostname, "location": given.get("location")}
    # A file of credentials that cannot be read is a `ValueError`.
    with failures.named((*errors, ValueError), is_open=False):
        if path := given.get("credentials_file"):
            client = client_of.from_service_account_json(path, **where)
            reader = reader_of.from_service_account_json(path)
        else:
            client = client_of(**where)
            reader = reader_of()
    with closing(client):
        driver = BigQueryDriver(client, reader, bigquery, errors)
        with failures.named(errors, is_open=False):
            driver.open(is_missing=NotFound)
        try:
            with closing(WarehouseSession(driver, failures)) as session:
                yield session
        finally:
            with failures.ignored(errors):
                driver.end_session()


class BigQueryDriver:
    """A session of BigQuery, with the dataset `SCHEMA`. Fulfils `Driver`."""

    dialect: "Dialect" = "bigquery"
    has_temporary_tables = False

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - the client is an extra
        reader: Any,  # noqa: ANN401 - see above
        bigquery: Any,  # noqa: ANN401 - see above
        errors: tuple[type[Exception], ...],
    ) -> None:
        """`reader` is the client that reads large results; `bigquery` is the module of `client`."""
        self._client = client
        self._reader = reader
        self._bigquery = bigquery
        self.errors = errors
        self._session: list[Any] = []
        self._running: Any = None

    def open(self, is_missing: type[Exception]) -> None:
        """Begin a session; make the dataset if there is none, which is the error `is_missing`."""
        try:
            self._client.get_dataset(SCHEMA)
        except is_missing:
            self._client.create_dataset(SCHEMA, exists_ok=True)
        job = self._client.query(
            "SELECT 1", job_config=self._bigquery.QueryJobConfig(create_session=True)
        )
        job.result()
        session = job.session_info.session_id
        self._session = [self._bigquery.ConnectionProperty("session_id", session)]

    def end_session(self) -> None:
        """End the session, and any transaction of it."""
        if self._session:
            self.run("CALL BQ.ABORT_SESSION()")

    def run(self, statement: str) -> None:
        """Run a statement that returns nothing."""
        self._result(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""
        return [tuple(each.values()) for each in self._result(query)]

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a large result, as BigQuery sends it."""
        yield from self._result(query).to_arrow_iterable(self._reader)

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table, as a Parquet file."""
        file = io.BytesIO()
        pq.write_table(rows, file)
        job = self._client.load_table_from_file(
            file,
            f"{self._client.project}.{SCHEMA}.{table}",
            rewind=True,
            job_config=self._bigquery.LoadJobConfig(
                source_format=self._bigquery.SourceFormat.PARQUET,
                write_disposition=self._bigquery.WriteDisposition.WRITE_APPEND,
            ),
        )
        self._ended(job)

    def cancel(self) -> None:
        """End what another thread runs."""
        if (running := self._running) is not None:
            running.cancel()

    def _result(self, statement: str) -> Any:  # noqa: ANN401 - see above
        config = self._bigquery.QueryJobConfig(connection_properties=self._session)
        return self._ended(self._client.query(statement, job_config=config))

    def _ended(self, job: Any) -> Any:  # noqa: ANN401 - see above
        """Return the result of a job once it has ended."""
        self._running = job
        try:
            return job.result()
        finally:
            self._running = None
