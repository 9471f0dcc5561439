"""The engine that makes a cohort's plans and keeps its snapshots, by the configuration."""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.clock import Clock
from engine.config.loading import Config
from engine.model.cohort import CohortKey
from engine.planning.local_engine import LOCAL
from engine.runs.ports import PlanEngine
from engine.snapshot.ports import SnapshotIndex
from engine.snapshot.store import SnapshotStore
from engine.source.sql.connection import Connection
from engine.source.sql.driver_errors import Said
from engine.source.urls import passwords_in
from engine.storage.computation import Interruption
from engine.storage.paths import workspace_names
from engine.storage.settings import PlanningSettings

if TYPE_CHECKING:  # Loaded only if an engine is configured.
    from engine.planning.database.engine import ExternalEngine
    from engine.planning.database.session import DatabaseSession
    from engine.planning.spark.process import SparkProcess
    from engine.planning.spark.session import ClusterSession

_NAME_CHARACTERS = 20


def engine_of(config: Config, root: Path, key: CohortKey) -> PlanEngine:
    """Return the engine of a cohort whose ledger is in the folder `root`.

    Raises `UsageError` if the packages that Spark needs are not installed.
    """
    return LOCAL if config.planning.engine == "local" else _external(config, root, key)


def try_engine(config: Config) -> str:
    """Let the engine that is not this machine make and read a temporary table.

    Return what is to be said of it. Raises as `Session`, and `UsageError` as `engine_of`.
    """
    connection = config.connections[config.planning.connection or ""]
    if connection.path is not None and not connection.path.exists():
        return f"{connection.path} is made by the first mirror"
    found = _external(config, Path("check", "check"), CohortKey("check", "check"))
    found.try_out()
    return f"{config.planning.engine} compares at {connection.shown}; snapshots in {found.place}"


def _external(config: Config, root: Path, key: CohortKey) -> "ExternalEngine[Any]":
    settings = config.planning
    connection = config.connections[settings.connection or ""]
    # Equal on each machine, and for each spelling of the endpoint.
    what = (*workspace_names(root), key.partner, key.cohort_id, str(key.is_shadow))
    name = hashlib.sha256("\0".join(what).encode()).hexdigest()[:_NAME_CHARACTERS]
    if settings.engine == "spark":
        return _on_spark(settings, connection, name)
    return _in_database(settings, connection, name, config.mirror.keep_generations)


def _in_database(
    settings: PlanningSettings, connection: Connection, name: str, kept: int
) -> "ExternalEngine[Any]":
    from engine.planning.database.engine import ExternalEngine  # noqa: PLC0415 - only if used
    from engine.planning.database.statements import Tables  # noqa: PLC0415
    from engine.planning.database.tables import TableGenerations  # noqa: PLC0415

    @contextmanager
    def session(interruption: Interruption) -> Iterator["DatabaseSession"]:
        with (
            opened(connection, settings, interruption) as found,
            interruption.calling(found.cancel),
        ):
            yield found

    generations = TableGenerations(Tables(name), kept)
    place = f"the database of `connections.{connection.name}`"
    return ExternalEngine(session, connection.name, place, generations)


def _on_spark(
    settings: PlanningSettings, connection: Connection, name: str
) -> "ExternalEngine[Any]":
    from engine.planning.database.engine import ExternalEngine  # noqa: PLC0415 - only if used
    from engine.planning.spark.generations import LakeGenerations  # noqa: PLC0415
    from engine.planning.spark.lake import CohortFolder  # noqa: PLC0415
    from engine.planning.spark.session import cluster_session  # noqa: PLC0415

    cohort = CohortFolder(settings.lake or "", name)

    def start() -> "SparkProcess":
        from engine.planning.spark.process import PROCESSES  # noqa: PLC0415 - it needs Java

        return PROCESSES.get(connection.spark_master, settings)

    @contextmanager
    def session(interruption: Interruption) -> Iterator["ClusterSession"]:
        now = datetime.now(UTC)
        with (
            cluster_session(cohort, start, interruption, now) as found,
            interruption.calling(found.cancel),
        ):
            yield found

    return ExternalEngine(session, connection.name, cohort.place, LakeGenerations(cohort))


@contextmanager
def opened(
    connection: Connection, settings: PlanningSettings, interruption: Interruption
) -> Iterator["DatabaseSession"]:
    """Open a session in the database of a connection.

    Raises as `DatabaseSession`, and `ConfigError` if the password cannot be read.
    """
    from engine.planning.database.failures import Failures  # noqa: PLC0415 - only if used

    name = f"the database of `connections.{connection.name}`"
    password = connection.password()
    secrets = (*([] if password is None else [password]), *passwords_in(connection.url))
    failures = Failures(name, Said(name, (connection.shown,), secrets), interruption)
    if connection.path is not None:
        from engine.planning.database.duckdb_session import duckdb_session  # noqa: PLC0415

        with duckdb_session(connection.path, settings, failures) as session:
            yield session
        return
    from engine.planning.database.postgres_session import postgres_session  # noqa: PLC0415
    from engine.planning.warehouse.bigquery import bigquery_session  # noqa: PLC0415
    from engine.planning.warehouse.snowflake import snowflake_session  # noqa: PLC0415

    url = connection.url_with(password)
    match connection.scheme:
        case "snowflake":
            server: AbstractContextManager[DatabaseSession] = snowflake_session(url, failures)
        case "bigquery":
            server = bigquery_session(url, failures)
        case _:
            server = postgres_session(url, settings, failures)
    with server as session:
        yield session


def store_of(
    config: Config, root: Path, index: SnapshotIndex, key: CohortKey, clock: Clock
) -> SnapshotStore:
    """Return the snapshots of a cohort whose ledger, in the folder `root`, has the `index`."""
    engine = engine_of(config, root, key)
    return SnapshotStore(root, index, key, config.mirror, config.planning, clock, engine)
