"""No reader takes a path for a pattern, a partition or a URL, whatever the folders are called."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from emulated_api import COHORT, Emulator
from nightly import TARGET, CommandLine, Ended

from engine.snapshot.sorted_file import SNAPSHOT

COHORT_ID = ("--cohort-id", COHORT)
LIFTED = ("--allow", "shape", "--allow", "older", "--reason", "a trial")

NAMES: Mapping[str, str | None] = {
    "state=3": None,
    "run=7": None,
    "uid=x": None,
    "country=US": None,
    "br[1]acket": "br1acket",
    "[!x]": "y",
    "st*r": "staar",
    "**": "deep",
    "qu?ry": "quxry",
    "{a,b}": "a",
    "back\\slash": "backslash",
    "back\\[1]": "back1",
    'it\'s "quoted"': None,
    "%41%2F": "A",
    " ": None,
    "a ; b": None,
    "#fragment": None,
    "&x=1": None,
    "-dash": None,
    "new\nline": None,
    "s3:": None,
    "file:": None,
    "https:": None,
    ":memory:": None,
    "~": None,
    "$HOME": None,
    "élan": None,
}
"""Names of folders, and another one that each might stand for."""


def test_the_names_of_all_folders_above_are_only_names(cli: CommandLine, api: Emulator) -> None:
    walk(cli, api, tuple(NAMES))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_folder_is_only_a_name(cli: CommandLine, api: Emulator, name: str) -> None:
    walk(cli, api, (name,))


def test_a_state_folder_that_is_not_utf_8_is_refused(cli: CommandLine) -> None:
    write(cli, "ids.txt", 0, 10)
    state = ("--state", os.fsdecode(os.fsencode(cli.folder) + b"/st\xffte"))
    for command in (("mirror", "ids.txt", *TARGET), ("push", "ids.txt", *TARGET), ("runs",)):
        ended = cli.run(*command, *state)
        assert ended.status == 2
        assert "not valid UTF-8" in ended.stderr


def walk(cli: CommandLine, api: Emulator, names: tuple[str, ...]) -> None:
    """Run each command that keeps or reads files below folders of these names."""
    inside = CommandLine(cli.folder.joinpath(*names), api.url)
    inside.folder.mkdir(parents=True)
    inside.configure(
        mirror={"settle_seconds": 0.0, "resend_over_nights": 1},
        guards={"max_removals": 1.0, "max_additions": 1000},
        plan={"memory_megabytes": 64, "threads": 1, "spill_dir": "spill=5[x]"},
    )
    lists = {name: write(inside, name, *bounds) for name, bounds in EXPORTS.items()}

    succeed(inside, "mirror", "first.txt", *TARGET, *LIFTED)
    assert set(api.members()) == lists["first.txt"]
    put_decoys(cli.folder, [NAMES[name] or name for name in names], inside)

    planned = succeed(inside, "plan", "second.txt", *TARGET, *LIFTED, "--json").document
    assert (planned["plan"]["add"], planned["plan"]["remove"]) == (5, 5)
    applied = succeed(inside, "apply", planned["run"], "--json").document
    assert applied["resend"]["accepted"] == 5
    assert set(api.members()) == lists["second.txt"]

    # Names of files that a user gives are only names, too.
    succeed(inside, "snapshot", "export", "m1.parquet", *COHORT_ID, "--generation", "1")
    succeed(inside, "snapshot", "export", "m*.parquet", *COHORT_ID)
    assert generation(inside, "import", "m*.parquet")["members"] == 10
    again = succeed(inside, "mirror", "second.txt", *TARGET, *LIFTED, "--json").document
    assert (again["add"]["planned"], again["remove"]["planned"]) == (0, 0)
    for missing in ("n*.parquet", "[m]1.parquet", "m?.parquet", "s3://b/m1.parquet"):
        refused = inside.run("snapshot", "import", missing, *COHORT_ID, "--json")
        assert refused.status == 2
        assert "No such file" in refused.document["reason"]

    compared = succeed(inside, "snapshot", "compare", "first.txt", *COHORT_ID, "--json")
    assert json.loads(compared.stdout)["in_both"] == 5
    made = generation(inside, "adopt", "first.txt")
    assert (made["members"], made["unknown"]) == (10, 5)
    assert generation(inside, "reconcile", "second.txt")["members"] == 10
    pushed = succeed(inside, "push", "third.txt", *TARGET, "--record", "--json").document
    assert pushed["uids"]["accepted"] == 3
    assert set(api.members()) == lists["second.txt"] | lists["third.txt"]
    succeed(inside, "rollback", *COHORT_ID, "--to", "1", *LIFTED)
    assert set(api.members()) == lists["first.txt"]

    verified = succeed(inside, "snapshot", "verify", *COHORT_ID, "--json")
    assert {row["verdict"] for row in json.loads(verified.stdout)} == {"whole"}
    why = succeed(inside, "why", "u003", *COHORT_ID, "--json")
    assert "decoy" not in why.stdout
    for command in (("runs",), ("show", pushed["run"]), ("rejects", pushed["run"]), ("resume",)):
        succeed(inside, *command)
    assert inside.run("check").status == 0
    assert not list((inside.folder / "spill=5[x]").iterdir())


EXPORTS = {"first.txt": (0, 10), "second.txt": (5, 15), "third.txt": (20, 23)}


def write(cli: CommandLine, name: str, start: int, end: int) -> set[str]:
    uids = [f"u{number:03}" for number in range(start, end)]
    (cli.folder / name).write_text("".join(f"{uid}\n" for uid in uids))
    return set(uids)


def put_decoys(root: Path, names: list[str], cli: CommandLine) -> None:
    """Put other snapshots where a pattern that is made of the path would find them."""
    decoy = root.joinpath(*names)
    uids = pa.array([f"decoy-{number}".encode() for number in range(3)], pa.binary())
    rows = pa.table([uids, pa.array([1] * 3, pa.uint8()), pa.array([1] * 3)], SNAPSHOT.names)
    for path in [*cli.folder.rglob("*.parquet")]:
        other = decoy / path.relative_to(cli.folder)
        if decoy != cli.folder:
            other.parent.mkdir(parents=True, exist_ok=True)
            for number in range(1, 9):
                with other.with_name(f"{number:06}.parquet").open("wb") as file:
                    pq.write_table(rows.cast(SNAPSHOT), file)


def succeed(cli: CommandLine, *arguments: str) -> Ended:
    ended = cli.run(*arguments)
    assert ended.status == 0, (arguments, ended.stderr, ended.stdout)
    return ended


def generation(cli: CommandLine, command: str, file: str) -> dict[str, Any]:
    [made] = json.loads(succeed(cli, "snapshot", command, file, *COHORT_ID, "--json").stdout)
    assert isinstance(made, dict)
    return made
