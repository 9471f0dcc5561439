"""A rehearsal (`push --dry-run`, `plan`, `mirror --dry-run`) is refused as the run itself is."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from emulated_api import COHORT, Emulator
from nightly import TARGET, CommandLine, Ended

OTHER_NAME = ("--cohort-id", COHORT, "--cohort-name", "Other")
UIDS = 300


@pytest.fixture(autouse=True)
def configured(cli: CommandLine) -> None:
    cli.configure(mirror={"settle_seconds": 0.0})
    cli.write("export.txt", UIDS)


def mirrored(cli: CommandLine) -> None:
    assert cli.run("mirror", "export.txt", *TARGET, "--json").status == 0


def pushed(cli: CommandLine) -> None:
    assert cli.push("export.txt").status == 0


def begun(cli: CommandLine) -> None:
    """Leave a run whose batches are known, and of which nothing was accepted."""
    right = cli.variables.get("MOENGAGE_API_KEY")
    cli.variables["MOENGAGE_API_KEY"] = "wrong-key"
    assert cli.push("export.txt").status == 3
    cli.variables.pop("MOENGAGE_API_KEY")
    if right is not None:
        cli.variables["MOENGAGE_API_KEY"] = right


def overtaken(cli: CommandLine) -> None:
    begun(cli)
    cli.write("later.txt")
    assert cli.push("later.txt").status == 0


def changed(cli: CommandLine) -> None:
    begun(cli)
    cli.write("other.txt", UIDS - 1)
    (cli.folder / "other.txt").replace(cli.folder / "export.txt")


def ledger_lost(cli: CommandLine) -> None:
    mirrored(cli)
    [ledger] = cli.ledger_files()
    for file in ledger.parent.glob(f"{ledger.name}*"):
        file.unlink()


def snapshot_lost(cli: CommandLine) -> None:
    mirrored(cli)
    for file in cli.folder.glob("state/**/snapshots/**/*.parquet"):
        file.unlink()


def ledger_newer(cli: CommandLine) -> None:
    pushed(cli)
    cli.change("PRAGMA user_version = 99")


def ledger_of_something_else(cli: CommandLine) -> None:
    pushed(cli)
    [ledger] = cli.ledger_files()
    ledger.write_bytes(b"no ledger at all" * 100)


def state_is_a_file(cli: CommandLine) -> None:
    (cli.folder / "state").write_text("a file")


def narrow(cli: CommandLine) -> None:
    cli.configure(limits={"payload_bytes": 50})


def nameless(cli: CommandLine) -> None:
    (cli.folder / "export.txt").write_text("a,b\n1,2\n")


def empty(cli: CommandLine) -> None:
    (cli.folder / "export.txt").write_text("\n\n")


class Case(NamedTuple):
    """What stands before a command that is refused, its arguments, and what it says."""

    prepare: Callable[[CommandLine], None]
    arguments: tuple[str, ...]
    status: int
    says: str


PUSHES = [
    Case(mirrored, TARGET, 2, "is mirrored"),
    Case(pushed, OTHER_NAME, 4, "was called 'Night' and is 'Other' now"),
    Case(pushed, (*OTHER_NAME, "--on-changed", "restart"), 4, "was called 'Night'"),
    Case(mirrored, (*OTHER_NAME, "--record"), 4, "was called 'Night'"),
    Case(overtaken, TARGET, 2, "has touched cohort"),
    Case(begun, (*TARGET, "--record"), 2, "was begun without --record"),
    Case(changed, TARGET, 2, "the export has changed"),
    Case(ledger_lost, TARGET, 2, "it was lost"),
    Case(ledger_lost, (*TARGET, "--record"), 2, "it was lost"),
    Case(snapshot_lost, (*TARGET, "--record"), 2, "snapshot"),
    Case(ledger_newer, TARGET, 2, "has version 99"),
    Case(ledger_of_something_else, TARGET, 2, "ledger"),
    Case(state_is_a_file, TARGET, 2, "cannot be written"),
    Case(narrow, TARGET, 2, "leaves no room for a uid"),
    Case(nameless, (*TARGET, "--format", "csv", "--column", "c"), 2, "column"),
    Case(empty, TARGET, 2, "no row holds a uid"),
    Case(begun, (*TARGET, "--allow", "removals=3", "--reason", "x"), 2, "does not have this guard"),
    Case(begun, (*TARGET, "--allow", "name"), 2, "--reason"),
]

MIRRORS = [
    Case(pushed, OTHER_NAME, 4, "was called 'Night' and is 'Other' now"),
    Case(mirrored, OTHER_NAME, 4, "was called 'Night' and is 'Other' now"),
    Case(ledger_lost, TARGET, 2, "it was lost"),
    Case(snapshot_lost, TARGET, 2, "snapshot"),
    Case(ledger_newer, TARGET, 2, "has version 99"),
    Case(ledger_of_something_else, TARGET, 2, "ledger"),
    Case(state_is_a_file, TARGET, 2, "cannot be written"),
    Case(narrow, TARGET, 2, "leaves no room for a uid"),
    Case(nameless, (*TARGET, "--format", "csv", "--column", "c"), 2, "column"),
    Case(empty, TARGET, 4, "empty"),
]


def _name(case: Case) -> str:
    return " ".join([case.prepare.__name__, *(a for a in case.arguments if a.startswith("--re"))])


def contents(folder: Path) -> dict[str, str]:
    """Digest every file of the state folder but the log that SQLite's readers keep."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "state").rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def assert_refused(ended: Ended, case: Case) -> str:
    assert ended.status == case.status, ended.stderr
    document = json.loads(ended.stdout)
    assert case.says in document["reason"]
    return str(document["reason"])


@pytest.mark.parametrize("case", PUSHES, ids=_name)
def test_what_a_push_refuses_its_dry_run_refuses(
    cli: CommandLine, api: Emulator, case: Case
) -> None:
    case.prepare(cli)
    before, received = contents(cli.folder), api.received()
    rehearsal = cli.run("push", "export.txt", *case.arguments, "--dry-run", "--json")
    assert contents(cli.folder) == before
    output = assert_refused(rehearsal, case)
    assert output == assert_refused(cli.run("push", "export.txt", *case.arguments, "--json"), case)
    assert api.received() == received


@pytest.mark.slow  # A plan is a mirror that stops before it sends: they share every check.
@pytest.mark.parametrize("case", MIRRORS, ids=_name)
def test_what_a_mirror_refuses_its_plan_refuses(
    cli: CommandLine, api: Emulator, case: Case
) -> None:
    case.prepare(cli)
    received = api.received()
    command = ("export.txt", *case.arguments, "--json")
    output = {
        assert_refused(cli.run("plan", *command), case),
        assert_refused(cli.run("mirror", *command, "--dry-run"), case),
        assert_refused(cli.run("mirror", *command), case),
    }
    assert len(output) == 1
    assert api.received() == received


def test_a_dry_run_shows_of_the_run_that_the_push_goes_on_with(
    cli: CommandLine, api: Emulator
) -> None:
    begun(cli)
    received = api.received()
    ended = cli.push("export.txt", "--dry-run")
    assert ended.status == 0
    [(known,)] = cli.query("SELECT sum(uid_count) FROM batch")
    assert f"a push resumes it, and knows {known} of its uids" in ended.stderr
    assert ended.document["uids"] | {"planned": UIDS, "pending": UIDS} == ended.document["uids"]
    batches = ended.document["batches"]["planned"]
    assert api.received() == received
    real = cli.push("export.txt")
    assert (real.status, real.document["batches"]["planned"]) == (0, batches)


def test_a_dry_run_begins_anew_where_the_push_does(cli: CommandLine) -> None:
    changed(cli)
    ended = cli.push("export.txt", "--dry-run", "--on-changed", "restart")
    assert (ended.status, ended.document["uids"]["planned"]) == (0, UIDS - 1)
    assert cli.push("export.txt", "--on-changed", "restart").status == 0


def test_a_dry_run_shows_of_other_runs_that_stay_unfinished(cli: CommandLine) -> None:
    begun(cli)
    cli.write("other.txt")
    ended = cli.push("other.txt", "--dry-run")
    assert ended.status == 0
    assert "is unfinished, and stays so" in ended.stderr


def test_a_dry_run_may_do_without_the_key_and_says_so(cli: CommandLine) -> None:
    cli.variables["MOENGAGE_API_KEY"] = ""
    ended = cli.push("export.txt", "--dry-run")
    assert ended.status == 0
    assert "no API key" in ended.stderr
    assert cli.push("export.txt").status == 2


@pytest.fixture
def held(cli: CommandLine) -> Iterator[None]:
    """Hold the workspace's lock, as another process does."""
    pushed(cli)
    [lock] = cli.folder.glob("state/*/*/lock")
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("held")
def test_a_dry_run_waits_for_nobody_and_shows_who_is_at_work(cli: CommandLine) -> None:
    ended = cli.push("export.txt", "--dry-run")
    assert ended.status == 0
    assert "the workspace is in use by" in ended.stderr
    assert cli.push("export.txt").status == 75
    # Whoever holds the workspace sends to another cohort.
    assert cli.run("plan", "export.txt", *TARGET, "--json").status == 0
    assert cli.run("mirror", "export.txt", *TARGET, "--json").status == 75


def test_a_name_is_allowed_for_one_push_and_kept_with_the_reason(cli: CommandLine) -> None:
    pushed(cli)
    allowed = cli.run(
        *("push", "export.txt", *OTHER_NAME, "--json"), "--allow", "name", "--reason", "renamed"
    )
    assert allowed.status == 0
    shown = json.loads(cli.run("show", allowed.document["run"], "--json").stdout)
    [lift] = shown["allowed"]
    assert (lift["guard"], lift["reason"]) == ("name", "renamed")
    assert "lifted    name by" in cli.run("show", allowed.document["run"]).stdout
    assert cli.push("export.txt").status == 4


def test_a_push_of_which_nothing_was_applied_names_no_cohort(cli: CommandLine) -> None:
    begun(cli)
    assert cli.run("push", "export.txt", *OTHER_NAME, "--json").status == 0


def test_no_state_folder_is_made_by_a_dry_run(cli: CommandLine) -> None:
    shutil.rmtree(cli.folder / "state", ignore_errors=True)
    assert cli.push("export.txt", "--dry-run").status == 0
    assert not (cli.folder / "state").exists()
