"""Which queries the database that makes the plans evaluates itself: no row of them comes here."""

from engine.config.loading import Config
from engine.planning.database.uid_patterns import common_pattern
from engine.source.sql.query import Query

_EVALUATING = ("duckdb", "postgres")
"""The values of `plan.engine` with which a query on `plan.connection` is not read here."""


def is_evaluated(config: Config, query: Query, uid_pattern: str | None) -> bool:
    """Return whether the database evaluates a mirror's query, whose uids should match a pattern."""
    is_readable_there = uid_pattern is None or common_pattern(uid_pattern) is not None
    return is_beside(config, query) and is_readable_there and not query.lists_changes


def is_beside(config: Config, query: Query) -> bool:
    """Return whether a query is on the connection on which plans are made."""
    planning = config.planning
    return planning.engine in _EVALUATING and query.connection == planning.connection
