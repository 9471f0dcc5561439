"""The one thread that writes: order, shared commits, and what a failure takes with it."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from ledger_entries import rows

from engine.errors import ExitStatus, IncompleteError, LedgerError, StateFullError, UsageError
from engine.ledger.sqlite.writer import LedgerWriter

Write = Callable[[sqlite3.Connection], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def connection(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE entry (entry PRIMARY KEY)")
    return connection


@pytest.fixture
async def writer(connection: sqlite3.Connection, path: Path) -> AsyncIterator[LedgerWriter]:
    writer = LedgerWriter(connection, path)
    yield writer
    await writer.close()


class Door:
    """Holds the writer's thread up in a commit, so that what is asked meanwhile has to wait."""

    def __init__(self, writer: LedgerWriter) -> None:
        self._open = threading.Event()
        reached = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stand(_: sqlite3.Connection) -> None:
            loop.call_soon_threadsafe(reached.set)
            self._open.wait()

        self._standing = asyncio.create_task(writer.write(stand))
        self.reached = reached.wait

    async def open(self) -> None:
        self._open.set()
        await self._standing


def entering(entry: int) -> Write:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO entry VALUES (?)", (entry,))

    return write


def failing(error: Exception) -> Write:
    def write(_: sqlite3.Connection) -> None:
        raise error

    return write


async def asked(*calls: asyncio.Task[None]) -> None:
    """Let tasks get as far as to ask."""
    for _ in range(len(calls) + 1):
        await asyncio.sleep(0)


async def test_a_write_is_on_the_disk_when_it_returns(writer: LedgerWriter, path: Path) -> None:
    for entry in range(5):
        await writer.write(entering(entry))
        assert rows(path, "SELECT count(*) FROM entry") == [(entry + 1,)]


async def test_a_write_returns_what_its_function_does(writer: LedgerWriter) -> None:
    assert await writer.write(lambda c: c.execute("SELECT 6 * 7").fetchone()) == (42,)


async def test_writes_asked_meanwhile_share_a_commit_and_keep_their_order(
    writer: LedgerWriter, connection: sqlite3.Connection, path: Path
) -> None:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    door = Door(writer)
    await door.reached()
    calls = [asyncio.create_task(writer.write(entering(entry))) for entry in range(20)]
    await asked(*calls)
    await door.open()
    await asyncio.gather(*calls)
    connection.set_trace_callback(None)
    assert [s for s in statements if not s.startswith("INSERT")] == [
        "BEGIN IMMEDIATE",
        "COMMIT",
    ] * 2
    assert rows(path, "SELECT entry FROM entry ORDER BY rowid") == [(n,) for n in range(20)]


AGES = 3600.0
"""A patience that outlasts the test."""


async def test_who_is_patient_shares_the_commit_of_who_comes_next(
    writer: LedgerWriter, connection: sqlite3.Connection, path: Path
) -> None:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    patient = [asyncio.create_task(writer.write(entering(entry), AGES)) for entry in range(2)]
    await asked(*patient)
    await asyncio.sleep(0.05)
    assert statements == []
    await writer.write(entering(2))
    await asyncio.gather(*patient)
    connection.set_trace_callback(None)
    assert [s for s in statements if not s.startswith("INSERT")] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert rows(path, "SELECT entry FROM entry ORDER BY rowid") == [(0,), (1,), (2,)]


async def test_patience_ends(writer: LedgerWriter, path: Path) -> None:
    await asyncio.wait_for(writer.write(entering(1), 0.02), 30)
    assert rows(path, "SELECT * FROM entry") == [(1,)]


async def test_the_less_patient_of_two_says_when(writer: LedgerWriter) -> None:
    calls = [writer.write(entering(1), AGES), writer.write(entering(2), 0.02)]
    calls.append(writer.write(entering(3), AGES))
    await asyncio.wait_for(asyncio.gather(*calls), 30)


async def test_closing_waits_for_no_patience(connection: sqlite3.Connection, path: Path) -> None:
    writer = LedgerWriter(connection, path)
    call = asyncio.create_task(writer.write(entering(1), AGES))
    await asked(call)
    await asyncio.wait_for(writer.close(), 30)
    await call
    assert rows(path, "SELECT * FROM entry") == [(1,)]


async def outcomes_of(writer: LedgerWriter, functions: Sequence[Write]) -> list[object]:
    """Let the functions share one transaction, and return what each of them ends in."""
    door = Door(writer)
    await door.reached()
    calls = [asyncio.create_task(writer.write(function)) for function in functions]
    await asked(*calls)
    await door.open()
    return await asyncio.gather(*calls, return_exceptions=True)


def half_done(connection: sqlite3.Connection) -> None:
    """Enter something, then fail."""
    connection.execute("INSERT INTO entry VALUES (99)")
    raise ValueError("no")


def rolled_back(connection: sqlite3.Connection) -> None:
    """Fail as SQLite does where it undoes the whole transaction by itself."""
    connection.execute("INSERT OR ROLLBACK INTO entry VALUES (1), (1)")


FAILURES_OF_A_JOB: dict[str, tuple[Write, type[Exception]]] = {
    "our own error": (failing(ValueError("no")), ValueError),
    "an error for the user": (failing(UsageError("no")), UsageError),
    "after a change": (half_done, ValueError),
    "a constraint": (lambda c: entering(1)(c) or entering(1)(c), sqlite3.IntegrityError),
    "a constraint that undoes all": (rolled_back, sqlite3.IntegrityError),
    "a statement that is wrong": (
        lambda c: c.execute("SELECT nothing") and None,
        sqlite3.OperationalError,
    ),
    "a number that is too large": (entering(1 << 80), OverflowError),
    "text that is not UTF-8": (
        lambda c: c.execute("INSERT INTO entry VALUES (?)", ("\udc80",)) and None,
        UnicodeEncodeError,
    ),
}


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("kind", FAILURES_OF_A_JOB)
async def test_a_job_that_fails_by_itself_fails_alone(
    writer: LedgerWriter, path: Path, kind: str, where: int
) -> None:
    function, error = FAILURES_OF_A_JOB[kind]
    others = [entering(11), entering(12)]
    outcomes = await outcomes_of(writer, [*others[:where], function, *others[where:]])
    assert [type(outcome) for outcome in outcomes].index(error) == where
    assert outcomes.count(None) == 2
    assert rows(path, "SELECT * FROM entry ORDER BY rowid") == [(11,), (12,)]
    await writer.write(entering(13))  # and it goes on
    assert rows(path, "SELECT count(*) FROM entry") == [(3,)]


async def test_several_jobs_fail_each_with_its_own_error(writer: LedgerWriter, path: Path) -> None:
    functions = [failing(ValueError("a")), entering(1), failing(KeyError("b")), half_done]
    outcomes = await outcomes_of(writer, functions)
    assert [type(outcome) for outcome in outcomes] == [
        ValueError,
        type(None),
        KeyError,
        ValueError,
    ]
    assert rows(path, "SELECT * FROM entry") == [(1,)]


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StateFullError),
        (sqlite3.SQLITE_IOERR_WRITE, StateFullError),
        (sqlite3.SQLITE_CORRUPT, LedgerError),
        (sqlite3.SQLITE_READONLY, LedgerError),
    ],
)
async def test_a_failure_of_the_file_reaches_all_who_share_the_commit(
    writer: LedgerWriter, path: Path, code: int, kind: type[Exception]
) -> None:
    functions = [entering(1), failing(sqlite_error(code)), entering(2)]
    outcomes = await outcomes_of(writer, functions)
    assert [type(outcome) for outcome in outcomes] == [kind] * 3
    assert rows(path, "SELECT * FROM entry") == []
    await writer.write(entering(3))
    assert rows(path, "SELECT * FROM entry") == [(3,)]


@pytest.mark.parametrize(
    ("code", "kind"),
    [(sqlite3.SQLITE_FULL, StateFullError), (sqlite3.SQLITE_ERROR, sqlite3.OperationalError)],
)
@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
async def test_a_transaction_that_fails_as_a_whole_reaches_all_who_share_it(
    connection: sqlite3.Connection, path: Path, statement: str, code: int, kind: type[Exception]
) -> None:
    failing_connection = FailingConnection(connection, statement, sqlite_error(code))
    writer = LedgerWriter(cast("sqlite3.Connection", failing_connection), path)
    outcomes = await outcomes_of(writer, [failing_connection.arm, entering(1), entering(2)])
    if statement == "BEGIN IMMEDIATE":  # Those three have begun already.
        assert outcomes == [None] * 3
        outcomes = await asyncio.gather(writer.write(entering(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [kind] * len(outcomes)
    survivors = rows(path, "SELECT * FROM entry ORDER BY rowid")
    assert survivors == ([(1,), (2,)] if statement == "BEGIN IMMEDIATE" else [])
    await writer.write(entering(4))
    await writer.close()


class FailingConnection:
    """A connection of which one statement fails once."""

    def __init__(self, connection: sqlite3.Connection, statement: str, error: Exception) -> None:
        self._connection = connection
        self._statement: str | None = None
        self._fails = statement
        self._error = error

    def arm(self, _: sqlite3.Connection) -> None:
        """Let the statement fail the next time."""
        self._statement = self._fails

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, statement: str, *values: object) -> object:
        if statement == self._statement:
            self._statement = None
            raise self._error
        return self._connection.execute(statement, *values)

    def close(self) -> None:
        self._connection.close()


async def test_a_full_disk_is_named_and_leaves_nothing_half_done(
    writer: LedgerWriter, path: Path
) -> None:
    await writer.write(lambda c: c.execute("CREATE TABLE load (bytes)") and None)

    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    def overfill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO entry VALUES (1)")
        connection.execute("INSERT INTO load VALUES (zeroblob(100000))")

    await writer.write(limit)
    with pytest.raises(StateFullError) as caught:
        await writer.write(overfill)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert rows(path, "SELECT * FROM entry") == []
    await writer.write(entering(2))
    assert rows(path, "SELECT * FROM entry") == [(2,)]


async def test_our_own_mistake_stays_a_bug(writer: LedgerWriter) -> None:
    await writer.write(entering(1))
    with pytest.raises(sqlite3.IntegrityError):
        await writer.write(entering(1))


@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_cancelled_write_is_on_the_disk_when_its_cancellation_is_raised(
    writer: LedgerWriter, path: Path, cancellations: int
) -> None:
    door = Door(writer)
    await door.reached()
    call = asyncio.create_task(writer.write(entering(1)))
    for _ in range(cancellations):
        await asked(call)
        call.cancel()
    await asked(call)
    is_over = call.done()
    await door.open()
    assert not is_over  # The locks of whoever asked for it were still held.
    with pytest.raises(asyncio.CancelledError):
        await call
    assert rows(path, "SELECT * FROM entry") == [(1,)]


async def test_a_ledger_that_another_program_holds_is_to_be_tried_again(
    writer: LedgerWriter, connection: sqlite3.Connection, path: Path
) -> None:
    connection.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(IncompleteError) as caught:
            await writer.write(entering(1))
    assert caught.value.exit_status is ExitStatus.INCOMPLETE
    assert caught.value.hint
    await writer.write(entering(2))
    assert rows(path, "SELECT * FROM entry") == [(2,)]


async def test_closing_finishes_what_was_asked(connection: sqlite3.Connection, path: Path) -> None:
    writer = LedgerWriter(connection, path)
    calls = [asyncio.create_task(writer.write(entering(entry))) for entry in range(20)]
    await asked(*calls)
    await writer.close()
    await asyncio.gather(*calls)
    assert rows(path, "SELECT count(*) FROM entry") == [(20,)]


class BrokenConnection:
    """A disk that takes neither a commit nor its undoing."""

    in_transaction = True

    def execute(self, statement: str) -> None:
        if statement != "BEGIN IMMEDIATE":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

    def close(self) -> None:
        """Nothing is left to close."""


async def test_a_disk_that_fails_altogether_keeps_nobody_waiting(path: Path) -> None:
    writer = LedgerWriter(BrokenConnection(), path)
    for _ in range(2):
        with pytest.raises(StateFullError):
            await writer.write(lambda _: None)
    await writer.close()
