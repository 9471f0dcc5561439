"""A state folder with a push and two mirrors in it, and every command that looks at one."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from emulated_api import COHORT
from nightly import CommandLine, Ended

from engine.ledger.sqlite.migrations import MIGRATIONS
from engine.ledger.sqlite.schema import open_ledger

PUSHED = "pushed"
LIFT = ("--allow", "shape", "--reason", "another list")
NOBODY = 65534
"""A user that owns nothing here."""


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that any user may go through, as pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="cohortsync-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def target(cohort: str) -> tuple[str, ...]:
    return ("--cohort-id", cohort, "--cohort-name", "Night")


def live(cli: CommandLine, *, with_mirror: bool = True) -> str:
    """Push into one cohort and mirror another one twice; return the push's run."""
    cli.configure(
        mirror={"settle_seconds": 0.0}, guards={"max_removals": 1.0}, limits={"requests": 10_000}
    )
    cli.write("first.txt", 30)
    cli.write("second.txt", 20)
    (cli.folder / "push.csv").write_bytes(b"user_id,x\na1,1\n,1\nbad,1,1\na2,1\n")
    pushed = cli.run("push", "push.csv", "--column", "user_id", *target(PUSHED), "--json")
    assert pushed.status == 1, pushed.stderr
    for export in ("first.txt", "second.txt") if with_mirror else ():
        mirrored = cli.run("mirror", export, *target(COHORT), *LIFT, "--json")
        assert mirrored.status == 0, mirrored.stderr
    return str(pushed.document["run"])


def looks(run: str) -> dict[str, tuple[str, ...]]:
    """Return the commands that look at a state folder and change nothing, by a short name."""
    mirrored = ("--cohort-id", COHORT)
    return {
        "runs": ("runs",),
        "runs --json": ("runs", "--json"),
        "show": ("show", run),
        "show --json": ("show", run, "--json"),
        "show --csv": ("show", run, "--csv"),
        "rejects": ("rejects", run),
        "rejects --csv": ("rejects", run, "--csv"),
        "report --json": ("report", "--since", "52w", "--json"),
        "resume": ("resume",),
        "resume --json": ("resume", "--json"),
        "why": ("why", "first.txt-uid-000003", *mirrored),
        "why --json": ("why", "second.txt-uid-000003", *mirrored, "--json"),
        "why pushed": ("why", "a1", "--cohort-id", PUSHED, "--json"),
        "snapshot list": ("snapshot", "list", *mirrored, "--json"),
        "snapshot verify": ("snapshot", "verify", *mirrored, "--json"),
        "snapshot export": ("snapshot", "export", "/dev/null/no", *mirrored),
    }


def works(plan: str) -> dict[str, tuple[str, ...]]:
    """Return the commands that go on from what a state folder holds, by a short name."""
    mirrored = target(COHORT)
    return {
        "push": ("push", "push.csv", "--column", "user_id", *target(PUSHED)),
        "push --record": ("push", "first.txt", "--record", *mirrored),
        "mirror": ("mirror", "second.txt", *mirrored),
        "plan": ("plan", "second.txt", *mirrored),
        "apply": ("apply", plan),
        "rollback": ("rollback", "--to", "1", *mirrored[:2]),
        "snapshot reconcile": ("snapshot", "reconcile", "second.txt", *mirrored[:2]),
    }


def contents(state: Path) -> dict[str, bytes]:
    """Return what stands in a folder, but for the index and the empty log that SQLite makes."""
    files = {str(path.relative_to(state)): path for path in state.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if not (name.endswith("-shm") or (name.endswith("-wal") and not path.stat().st_size))
    }


def downgrade(path: Path, version: int) -> None:
    """Make a ledger one of an older version, with all that such a one can hold."""
    older = path.with_name("older")
    with closing(open_ledger(older, MIGRATIONS[:version])) as ledger:
        ledger.execute("PRAGMA foreign_keys = OFF")
        ledger.execute("ATTACH ? AS newer", (str(path),))
        tables = [
            name
            for (name,) in ledger.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        ]
        for table in tables:
            columns = ", ".join(
                row[1] for row in ledger.execute(f"PRAGMA main.table_info({table})")
            )
            ledger.execute(
                f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}"
            )
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    older.replace(path)


@contextmanager
def another_user() -> Iterator[None]:
    """Let the block run as a user who owns nothing here; whoever is not root stays who they are.

    Root may read everything, whatever a file's mode says.
    """
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def assert_refused(ended: Ended, what: str) -> None:
    """Check that a command has said in one line what is wrong, and in another what to do."""
    assert ended.status == 2, f"{what}: {ended.stdout}{ended.stderr}"
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, f"{what}: {ended.stderr}"
    assert "hint: " in ended.stderr, f"{what}: {ended.stderr}"
    if ended.stdout:
        assert json.loads(ended.stdout)["exit_status"] == 2, what
