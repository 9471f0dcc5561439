"""The ledger's file: made, migrated, or refused with a clear word; never harmed."""

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ledger_entries import rows, tampering

from engine.errors import CohortSyncError, IncompleteError, LedgerError, StateFullError
from engine.ledger.sqlite.failures import translate
from engine.ledger.sqlite.migrations import MIGRATIONS
from engine.ledger.sqlite.schema import APPLICATION_ID, open_for_reading, open_ledger

NEXT = "ALTER TABLE run ADD COLUMN note TEXT; UPDATE run SET note = 'migrated';"
RUN = """
INSERT INTO run (name, identity, endpoint, workspace, partner, cohort_id, cohort_name, action,
                 exports, reading, sizes, status, started_utc_ns)
VALUES (?, x'00', 'http://127.0.0.1:1', 'W', 'P', 'C', 'N', 'add', '[]', '{}', '{}', 'finished', 0)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a folder?#%" / "ledger.sqlite"


@pytest.fixture
def old(path: Path) -> Path:
    """Return a ledger of the present version with a thousand runs in it."""
    path.parent.mkdir()
    with closing(open_ledger(path)) as connection:
        connection.execute("BEGIN")
        connection.executemany(RUN, [(f"run-{number}",) for number in range(1000)])
        connection.execute("COMMIT")
    return path


def refused(path: Path, opened: Callable[[Path], sqlite3.Connection] = open_ledger) -> str:
    """Return why a ledger is refused, and prove that the refusal left the file as it was."""
    before = path.read_bytes()
    with pytest.raises(LedgerError) as caught:
        opened(path)
    assert path.read_bytes() == before
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_a_new_ledger_has_its_marks_and_waits_for_the_disk(path: Path) -> None:
    path.parent.mkdir()
    with closing(open_ledger(path)) as connection:
        marks = ("application_id", "user_version", "journal_mode", "synchronous", "foreign_keys")
        found = [connection.execute(f"PRAGMA {mark}").fetchone()[0] for mark in marks]
    assert found == [APPLICATION_ID, len(MIGRATIONS), "wal", 2, 1]


def test_every_table_is_strict(path: Path) -> None:
    path.parent.mkdir()
    open_ledger(path).close()
    tables = rows(path, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main'")
    assert len(tables) > 6
    assert all(strict for name, strict in tables if not name.startswith("sqlite_"))


def test_only_its_owner_can_read_any_file_of_it(path: Path) -> None:
    path.parent.mkdir()
    mask = os.umask(0)
    try:
        with closing(open_ledger(path)) as connection:
            connection.execute(RUN, ("run",))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(mask)
    assert modes == dict.fromkeys(
        ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"], 0o600
    )


def test_a_ledger_that_others_could_read_is_closed_to_them(old: Path) -> None:
    old.chmod(0o644)
    open_ledger(old).close()
    assert stat.S_IMODE(old.stat().st_mode) == 0o600


def test_a_ledger_is_opened_again_as_it_was(old: Path) -> None:
    with closing(open_ledger(old)) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (1000,)
    with closing(open_for_reading(old)) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (1000,)


def test_a_reader_cannot_write(old: Path) -> None:
    with closing(open_for_reading(old)) as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("DELETE FROM run")


def test_an_older_ledger_is_backed_up_and_migrated(old: Path) -> None:
    with closing(open_ledger(old)) as writer:
        writer.execute(RUN, ("still in the log",))  # what WAL holds is in the backup too
        shutil.copytree(old.parent, old.parent.with_name("crashed"))
    crashed = old.parent.with_name("crashed") / old.name
    with closing(open_ledger(crashed, (*MIGRATIONS, NEXT))) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert connection.execute("SELECT DISTINCT note FROM run").fetchall() == [("migrated",)]
    backup = crashed.with_name(f"ledger.sqlite.v{len(MIGRATIONS)}.bak")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(open_ledger(backup)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (1001,)


def test_a_ledger_of_the_first_version_keeps_all_it_knows(path: Path) -> None:
    path.parent.mkdir()
    with closing(open_ledger(path, MIGRATIONS[:1])) as connection:
        connection.execute(RUN, ("run-1",))
        connection.execute("UPDATE run SET action = 'remove'")
        connection.execute(
            "INSERT INTO batch (run, batch, first_uid, uid_count, blank, invalid, is_last, "
            "payload_bytes, state) VALUES (1, 1, 0, 3, 0, 0, 1, 99, 'accepted')"
        )
        connection.execute(
            "INSERT INTO attempt (run, batch, attempt, sitting, intended_utc_ns) "
            "VALUES (1, 1, 1, 1, 7)"
        )
    with closing(open_ledger(path)) as connection:
        assert connection.execute("SELECT run, name, action FROM run").fetchall() == [
            (1, "run-1", "remove")
        ]
        assert connection.execute("SELECT leg, uid_count FROM batch").fetchall() == [("remove", 3)]
        assert connection.execute("SELECT intended_utc_ns FROM attempt").fetchall() == [(7,)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(old: Path) -> None:
    broken = "CREATE TABLE extra (a) STRICT;"  # STRICT wants a type
    for _ in range(2):
        with pytest.raises(sqlite3.Error):
            open_ledger(old, (*MIGRATIONS, "UPDATE run SET name = name || '!';", broken))
        with closing(open_ledger(old)) as connection:
            assert connection.execute("SELECT max(name) FROM run").fetchone() == ("run-999",)


def test_a_backup_that_finds_no_room_stops_the_migration(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(StateFullError) as caught:
        open_ledger(old, (*MIGRATIONS, NEXT))
    assert caught.value.hint
    assert rows(old, "PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_a_reader_does_not_migrate(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ledger.sqlite.schema.MIGRATIONS", (*MIGRATIONS, NEXT))
    before = old.read_bytes()
    with closing(open_for_reading(old)) as connection:
        assert [tuple(row) for row in connection.execute("SELECT DISTINCT note FROM run")] == [
            (None,)
        ]
    assert old.read_bytes() == before


@pytest.mark.parametrize("opened", [open_ledger, open_for_reading])
def test_a_newer_ledger_is_refused(old: Path, opened: Callable[[Path], sqlite3.Connection]) -> None:
    with tampering(old) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    assert f"knows up to {len(MIGRATIONS)}" in refused(old, opened)


@pytest.mark.parametrize("opened", [open_ledger, open_for_reading])
@pytest.mark.parametrize("version", [0, 1, 7])
def test_a_database_of_something_else_is_refused(
    path: Path, opened: Callable[[Path], sqlite3.Connection], version: int
) -> None:
    path.parent.mkdir()
    with tampering(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
        connection.execute(f"PRAGMA user_version = {version}")
    assert "not a ledger" in refused(path, opened)


@pytest.mark.parametrize("opened", [open_ledger, open_for_reading])
@pytest.mark.parametrize("content", [b"uid\n1\n2\n" * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_of_something_else_is_refused(
    path: Path, opened: Callable[[Path], sqlite3.Connection], content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert "corrupt" in refused(path, opened)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 3 * 4096)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def drop_a_page(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


@pytest.mark.parametrize("opened", [open_ledger, open_for_reading])
@pytest.mark.parametrize("harm", [overwrite, truncate, drop_a_page])
def test_a_corrupt_ledger_is_refused(
    old: Path,
    opened: Callable[[Path], sqlite3.Connection],
    harm: Callable[[Path], None],
) -> None:
    harm(old)
    assert "corrupt" in refused(old, opened)


def test_a_ledger_that_cannot_be_opened_is_refused(path: Path) -> None:
    path.mkdir(parents=True)  # a folder in its place
    with pytest.raises(LedgerError, match="cannot be used") as caught:
        open_ledger(path)
    assert caught.value.hint


@pytest.mark.parametrize("opened", [open_ledger, open_for_reading])
def test_a_ledger_that_is_nowhere_is_refused(
    path: Path, opened: Callable[[Path], sqlite3.Connection]
) -> None:
    with pytest.raises(LedgerError, match="cannot be used") as caught:
        opened(path)  # its folder was never made
    assert caught.value.hint


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StateFullError),
        (errno.EDQUOT, StateFullError),
        (errno.EACCES, LedgerError),
        (errno.EROFS, LedgerError),
    ],
)
def test_a_file_that_cannot_be_made_is_refused(
    path: Path, number: int, kind: type[CohortSyncError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "touch", fail)
    with pytest.raises(kind) as caught:
        open_ledger(path)
    assert os.strerror(number) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StateFullError),
        (sqlite3.SQLITE_IOERR_WRITE, StateFullError),
        (sqlite3.SQLITE_CORRUPT_INDEX, LedgerError),
        (sqlite3.SQLITE_NOTADB, LedgerError),
        (sqlite3.SQLITE_READONLY_DIRECTORY, LedgerError),
        (sqlite3.SQLITE_CANTOPEN, LedgerError),
        (sqlite3.SQLITE_BUSY, IncompleteError),
        (sqlite3.SQLITE_LOCKED, IncompleteError),
        (sqlite3.SQLITE_PERM, LedgerError),
    ],
)
def test_errors_are_named_by_what_can_be_done(
    path: Path, code: int, kind: type[CohortSyncError]
) -> None:
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = code
    translated = translate(error, path)
    assert type(translated) is kind
    assert translated.hint
    assert str(path) in translated.message


def test_a_mistake_of_ours_is_not_blamed_on_the_disk(path: Path) -> None:
    error = sqlite3.OperationalError("no such column")
    error.sqlite_errorcode = sqlite3.SQLITE_ERROR
    assert translate(error, path) is error
