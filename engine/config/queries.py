"""Reads queries: the tables `queries.NAME`, and those that are the `source` of a cohort."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from engine.config.config_file import ConfigFile
from engine.config.variables import Keys
from engine.model.setting_values import SHOULD_BE_TEXT, Text
from engine.source.dates import date_problem
from engine.source.sql.query import Query, text_problem

_HINT_NO_CONNECTION = "each connection is a table [connections.NAME] with a `url`"


@dataclass(frozen=True, slots=True)
class QueryTable:
    """One query for the exports of many cohorts: it is run once, and each row says whose it is."""

    connection: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The name of a connection. Required."""
    query: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """One query that reads, which may have dates such as {date}. Required."""
    cohort_column: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The column that says which cohort a row is of. Required."""
    action_column: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The column that says add or remove, for cohorts with mode = "changes"."""
    order_column: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The column by which the last of several rows of a uid counts."""


@dataclass(frozen=True, slots=True)
class QuerySource:
    """The query whose result is the export of a cohort."""

    connection: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The name of a connection."""
    query: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """One query that reads, which may have dates such as {date}."""
    shared_query: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The name of a table [queries.NAME], in place of `connection` and `query`."""
    value: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """What its `cohort_column` has in the rows of this cohort; by default, the cohort's key."""
    action_column: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The column that says add or remove, with mode = "changes"."""
    order_column: Text | None = field(default=None, metadata=SHOULD_BE_TEXT)
    """The column by which the last of several rows of a uid counts."""


def read_queries(file: ConfigFile, connections: Collection[str]) -> dict[str, Query | None]:
    """Return the shared queries by name; an invalid one, which is a problem, is None."""
    names = file.tables.names(("queries",)) if file.tables.holds(("queries",)) else []
    return {name: _shared(file, ("queries", name), connections) for name in names}


def _shared(file: ConfigFile, at: Keys, connections: Collection[str]) -> Query | None:
    table = file.tables.read(at, QueryTable)
    query = _query(file, at, table, connections)
    if table.cohort_column is None and not file.tables.holds((*at, "cohort_column")):
        file.tables.refuse(
            (*at, "cohort_column"), "is needed: the column that says which cohort a row is of"
        )
    if query is None or table.cohort_column is None:
        return None
    return replace(query, cohort_column=table.cohort_column)


def read_query_source(
    file: ConfigFile,
    at: Keys,
    key: str,
    connections: Collection[str],
    shared: Mapping[str, Query | None],
) -> Query | None:
    """Return the query in a table `source`, of the cohort with a key; None after a problem."""
    tables = file.tables
    table = tables.read(at, QuerySource)
    if not tables.holds((*at, "shared_query")):
        if tables.holds((*at, "value")):
            tables.refuse((*at, "value"), "needs `shared_query`: the name of a [queries.NAME]")
        return _query(file, at, table, connections)
    for other in ("connection", "query", *_CHANGES):
        if tables.holds((*at, other)):
            tables.refuse((*at, other), "and `shared_query` exclude each other")
    if table.shared_query is None:
        return None
    if table.shared_query not in shared:
        shown = tables.shown((*at, "shared_query"), table.shared_query)
        known = ", ".join(shared) or "none"
        tables.refuse((*at, "shared_query"), f"is {shown}; the tables [queries.NAME] are: {known}")
        return None
    query = shared[table.shared_query]
    return None if query is None else query.of(table.value or key)


def _query(
    file: ConfigFile, at: Keys, table: QueryTable | QuerySource, connections: Collection[str]
) -> Query | None:
    tables = file.tables
    lacking = [name for name in ("connection", "query") if not tables.holds((*at, name))]
    if len(lacking) > 1:
        others = ", or `shared_query`" if isinstance(table, QuerySource) else ""
        tables.refuse(at, f"should have `connection` and `query`{others}")
    elif lacking:
        tables.refuse((*at, *lacking), "is needed: a query has a `connection` and a `query`")
    if table.query is not None and (problem := query_problem(table.query)):
        is_secret = tables.variables((*at, "query"))
        tables.refuse((*at, "query"), "is no query that can be run" if is_secret else problem)
        return None
    if table.connection is None or table.query is None:
        return None
    if table.connection not in connections:
        shown = tables.shown((*at, "connection"), table.connection)
        known = ", ".join(connections)
        clause = f"the connections are: {known}" if known else _HINT_NO_CONNECTION
        tables.refuse((*at, "connection"), f"is {shown}; {clause}")
        return None
    lacking = [name for name in _CHANGES if not tables.holds((*at, name))]
    if len(lacking) == 1:
        if table.action_column or table.order_column:
            tables.refuse((*at, *lacking), f"is needed: {_PAIR}")
        return None
    return Query(
        table.connection,
        table.query,
        action_column=table.action_column,
        order_column=table.order_column,
    )


_CHANGES = ("action_column", "order_column")
_PAIR = "rows that say add or remove have an `action_column` and an `order_column`"


def query_problem(text: str) -> str | None:
    """Return why a text, which may have dates, is no query that can be run; None if it is one."""
    if problem := date_problem(text):
        return f"has an invalid date: {problem}"
    return text_problem(text)
