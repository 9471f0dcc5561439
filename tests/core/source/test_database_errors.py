"""What drivers say of an error decides its exit status and its hint."""

import pytest

from engine.errors import SourceUnavailableError
from engine.source.sql.driver_errors import Said, error_of
from engine.source.sql.error_kinds import KINDS

SAID: dict[str | tuple[int, str], str] = {
    "unable to open database file": "the user of this process",
    'IO Error: Cannot open file "/a.duckdb": Permission denied': "the user of this process",
    'IO Error: Could not read from file "/a": Is a directory': "file in `url`",
    (1146, "Table 'marts.gone' doesn't exist"): "SCHEMA.TABLE",
    (1054, "Unknown column 'x' in 'field list'"): "name of the column",
    (1064, "You have an error in your SQL syntax; check"): "correct the query",
    (1049, "Unknown database 'gone'"): "name of the database",
    (1045, "Access denied for user 'reader'@'host' (using password: YES)"): "password",
    (1142, "SELECT command denied; access denied to 'reader'"): "let the owner grant",
    (1040, "Too many connections"): "end other connections",
    (2005, "Unknown MySQL server host 'gone' (-2)"): "correct the host",
    "NOT_FOUND: Not found: Table p:d.gone was not found in location EU": "SCHEMA.TABLE",
    "UNAUTHORIZED: [Snowflake] 390100 (08004): Incorrect username or password": "password",
    "UNAUTHORIZED: [BigQuery] Access Denied: Table p:d.t": "let the owner grant",
    "002003 (02000): Object 'GONE' does not exist or not authorized.": "SCHEMA.TABLE",
    "000904 (42000): invalid identifier 'X'": "name of the column",
    "IO: [libpq] could not translate host name": "correct the host",
    "server closed the connection unexpectedly": "run the same command again",
}
"""MySQL's drivers have a number beside what they say."""


@pytest.mark.parametrize(("said", "hint"), SAID.items())
def test_each_kind_has_a_hint(said: str | tuple[int, str], hint: str) -> None:
    arguments = (said,) if isinstance(said, str) else said
    found = error_of(RuntimeError(*arguments), Said("q", ()), is_open=False)
    assert hint in str(found.hint)
    is_temporary = any(word in str(found.hint) for word in ("host", "connections", "again"))
    assert isinstance(found, SourceUnavailableError) == is_temporary


def test_a_word_that_is_the_name_of_a_table_does_not_decide() -> None:
    for name in ("network", "timeouts", "readonly", "syntax error"):
        found = error_of(
            RuntimeError(f'relation "{name}" does not exist'), Said("q", ()), is_open=True
        )
        assert "SCHEMA.TABLE" in str(found.hint)
    error = RuntimeError("division of network by zero")
    error.sqlstate = "22012"  # type: ignore[attr-defined] # as drivers have it
    found = error_of(error, Said("q", ()), is_open=True)
    assert (found.exit_status, found.hint) == (2, None)


def test_no_state_is_of_two_kinds() -> None:
    states = [state for each in KINDS for state in each.states]
    assert len(states) == len(set(states))
