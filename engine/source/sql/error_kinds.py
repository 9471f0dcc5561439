"""The kinds of errors of databases, by SQLSTATE or by what a driver says, and what to do."""

import re
from dataclasses import dataclass

_AGAIN = "run the same command again: it runs the query again, as nothing was sent"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """Errors that the user can do the same about."""

    says: re.Pattern[str]
    """Matches what drivers say, without quoted values."""
    hint: str
    states: tuple[str, ...] = ()
    """How the SQLSTATE of an error of this kind begins."""
    what: str | None = None
    """What happened, as a clause; None: the query failed, or the database cannot be opened."""
    is_temporary: bool = False
    """Whether the same command may succeed later, with no change to it."""


def _says(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_NAMES = (
    ErrorKind(
        _says(
            r"relation '' does not exist",
            r"no such table",
            r"Table with name .* does not exist",
            r"Table '' doesn't exist",
            r"Not found: Table",
            r"(?:Object|Table|Schema) '' does not exist",
            r"TABLE_OR_VIEW_NOT_FOUND",
        ),
        "correct the name of the table, or write its schema, as SCHEMA.TABLE",
        ("42P01", "42S02", "3F000"),
    ),
    ErrorKind(
        _says(
            r"column '' does not exist",
            r"no such column",
            r"Referenced column '' not found",
            r"does not have a column named",
            r"Unknown column",
            r"Unrecognized name",
            r"invalid identifier",
            r"UNRESOLVED_COLUMN",
        ),
        "correct the name of the column; one with capitals or blanks stands in quotes",
        ("42703", "42S22"),
    ),
    ErrorKind(
        _says(r"function .*does not exist", r"no such function", r"FUNCTION .* does not exist"),
        "the database does not have this function for values of this kind: correct its name, or "
        "convert the values",
        ("42883",),
    ),
    ErrorKind(
        _says(r"database '' does not exist", r"Unknown database", r"Database .* does not exist"),
        "correct the name of the database at the end of `url`",
        ("3D000",),
    ),
)
_REFUSALS = (
    ErrorKind(
        _says(
            r"authentication failed|no password supplied|incorrect username or password",
            r"access denied for user|password (?:is )?(?:incorrect|required)|pg_hba\.conf",
            r"invalid (?:credentials|grant)|could not find default credentials",
            r"default credentials were not found",
            r"\bunauthenticated\b|\bunauthori[sz]ed\b|\b390100\b",
        ),
        "check `url` and where the password is from; docs/sources.md says which that are",
        ("28",),
        "the database refuses the password or the user",
    ),
    ErrorKind(
        _says(
            r"read-?only|readonly",
            r"cannot execute \w+ in a|COPY query must have a RETURNING",
            r"not authorized$|authorization denied$|data-modifying statement",
        ),
        "a query may only read: one SELECT",
        ("25006",),
        "the query writes, and is run in a read-only transaction",
    ),
    ErrorKind(
        _says(
            r"multiple commands|one statement at a time|multiple statements|statement count",
            r"more than one (?:statement|command)",
        ),
        "a query is one SELECT",
        what="has several statements",
    ),
    ErrorKind(
        _says(r"unable to open database file|Cannot open file '?'?:? ?.*Permission denied"),
        "let the user of this process read the file and write to its folder",
    ),
    ErrorKind(
        _says(r"permission denied|insufficient privilege|access denied|not authorized"),
        "let the owner grant it to the user of `url`: a query needs SELECT on its tables and USAGE "
        "of their schemas; docs/engines.md says what a comparison needs",
        ("42501",),
    ),
    ErrorKind(
        _says(r"file is not a database|not a valid DuckDB database|is a directory"),
        "name the database's file in `url`",
    ),
    ErrorKind(
        _says(r"syntax error|Parser Error|incomplete input|error in your SQL syntax"),
        "correct the query; `cohortsync source preview` tries it, and sends nothing",
        ("42601", "42000"),
    ),
)
_AWAY = (
    ErrorKind(
        _says(
            r"could not translate host|name or service not known|nodename nor servname",
            r"name resolution|Unknown (?:MySQL server )?host|getaddrinfo",
        ),
        f"correct the host in `url`; if it is right, this machine finds no address for it now: "
        f"{_AGAIN}",
        is_temporary=True,
    ),
    ErrorKind(
        _says(r"too many (?:clients|connections)|remaining connection slots"),
        f"end other connections, or let the server and the user have more; then {_AGAIN}",
        ("53300",),
        is_temporary=True,
    ),
    ErrorKind(
        _says(
            r"terminat|server closed|closed the connection",
            r"connection (?:reset|refused|closed|timed|to)",
            r"lost connection|gone away|could not (?:receive|send|connect)|\bEOF\b|broken pipe",
            r"network|timed? ?out|timeout|starting up|shutting down|temporar|is locked",
            r"aborted due to concurrent|lock on file|canceling statement|no route|unreachable",
            r"SSL SYSCALL|\b50[0234]\b",
        ),
        _AGAIN,
        ("08", "53", "57"),
        is_temporary=True,
    ),
)
KINDS = (*_NAMES, *_REFUSALS, *_AWAY)
"""All kinds; an error is of the first one that it matches."""


def kind_of(state: str, text: str) -> ErrorKind | None:
    """Return the kind of an error by its SQLSTATE, "" if it has none, and by what a driver says.

    In `text`, each quoted value is ''. None for an error of no kind.
    """
    return next((each for each in KINDS if _is_of(each, state, text)), None)


def _is_of(kind: ErrorKind, state: str, text: str) -> bool:
    if state.startswith(kind.states or (" ",)):
        return True
    # A SQLSTATE says better whether to try again than a word that may be the name of a table.
    return not (state and kind.is_temporary) and kind.says.search(text) is not None
