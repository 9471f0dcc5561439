"""A run's accounts: what the JSON document says, and that it is true."""

import csv
import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from emulated_api import Emulator
from nasty_export import write_nasty_export
from nightly import TARGET, CommandLine, assert_balanced

STANDING = {"planned": int, "accepted": int, "rejected": int, "unconfirmed": int, "pending": int}
# The document may grow by keys.
DOCUMENT = {
    "run": str,
    "status": str,
    "exit_status": int,
    "reason": type(None),
    "target": str,
    "workspace": str,
    "partner": str,
    "cohort_id": str,
    "cohort_name": str,
    "action": str,
    "ceiling": {"requests": int, "per_seconds": float, "hours": list},
    "source_complete": bool,
    "rows": {"read": int, "blank": int, "invalid": int, "excluded": int},
    "uids": STANDING,
    "batches": STANDING,
    "requests": {"sent": int, "accepted": int, "throttled": int, "retried": int, "split": int},
    "bytes_sent": int,
    "payload_fill": float,
    "ceiling_use": float,
    "started_at": str,
    "finished_at": str,
    "elapsed_seconds": float,
    "schema_version": int,
}


def types_of(value: object) -> object:
    if isinstance(value, dict):
        return {key: types_of(inner) for key, inner in value.items()}
    return type(value)


def test_a_finished_run_shows_everything(cli: CommandLine, api: Emulator) -> None:
    planned = cli.write("export.txt")
    ended = cli.spawn_push("export.txt")
    accounts, report = ended.document, api.report()
    assert types_of({key: accounts[key] for key in DOCUMENT}) == DOCUMENT
    assert (ended.status, accounts["status"]) == (0, "finished")
    assert api.members() == planned
    assert accounts["uids"]["accepted"] == len(planned)
    assert_balanced(accounts)
    assert accounts["requests"]["sent"] == report["requests"]["received"] > 1
    assert accounts["bytes_sent"] == report["bytes_received"]
    assert not report["breaches"]
    began, finished = (
        datetime.fromisoformat(accounts[key]) for key in ("started_at", "finished_at")
    )
    assert began <= finished


def test_a_run_opens_with_where_it_goes(cli: CommandLine) -> None:
    cli.write("export.txt", 1)
    first = cli.spawn_push("export.txt").stderr.splitlines()[0]
    address = cli.url.removeprefix("http://")
    for said in (
        f'target="EMULATOR {address}"',
        "workspace=NIGHTLY",
        "partner=cohortsync",
        "cohort_id=night",
        "action=add",
        "ceiling=300/2s",
    ):
        assert said in first


def test_accounts_for_people_say_accepted_and_never_applied(cli: CommandLine) -> None:
    cli.write("export.txt", 3)
    ended = cli.run("push", "export.txt", *TARGET, "--verbose")
    assert ended.status == 0
    assert "accepted" in ended.stdout
    assert "3 read = 0 blank + 0 invalid + 3 planned" in ended.stdout
    assert "applied" not in ended.stdout + ended.stderr


def test_every_nasty_row_is_accounted_for(cli: CommandLine, api: Emulator, tmp_path: Path) -> None:
    cli.configure(limits={"payload_bytes": 20_000})
    expected = write_nasty_export(tmp_path / "nasty.csv.gz", 6_000, payload_bytes=20_000)
    ended = cli.push("nasty.csv.gz", "--column", "uid")
    accounts = ended.document
    assert ended.status == 1
    assert accounts["rows"] == {
        "read": expected.rows,
        "blank": len(expected.blank),
        "invalid": len(expected.invalid),
        "excluded": 0,
    }
    assert accounts["uids"]["planned"] == expected.planned
    assert accounts["uids"]["rejected"] == len(expected.rejected)
    assert_balanced(accounts)
    assert api.members() == expected.members
    rejects = cli.rejects(accounts["run"])
    assert [(reject["kind"], reject["record"]) for reject in rejects] == expected.rejects
    assert {reject["file"] for reject in rejects} == {"nasty.csv.gz"}
    fine = cli.write("fine.txt", 3) and cli.push("fine.txt").document["run"]
    assert cli.run("rejects", fine, "--csv").stdout == "kind,file,record,reason,uid,request_id\n"
    as_csv = csv.DictReader(io.StringIO(cli.run("rejects", accounts["run"], "--csv").stdout))
    assert [(reject["kind"], int(reject["record"])) for reject in as_csv] == expected.rejects


def test_an_export_without_a_uid_is_accounted_for_too(cli: CommandLine, api: Emulator) -> None:
    export = cli.folder / "export.csv"
    export.write_bytes(b"uid,x\n,1\n ,2\n\xff,3\nb,1,1\n")
    for _ in range(2):  # The second time it is read, and counted, anew.
        ended = cli.push("export.csv", "--column", "uid")
        accounts = ended.document
        assert ended.status == 2
        assert "4 rows read" in accounts["reason"]
        assert accounts["rows"] == {"read": 4, "blank": 2, "invalid": 2, "excluded": 0}
        assert accounts["source_complete"]
        assert_balanced(accounts)
        rejects = cli.rejects(accounts["run"])
        assert [(reject["kind"], reject["record"]) for reject in rejects] == [
            *(("blank", 1), ("blank", 2)),
            *(("invalid", 3), ("invalid", 4)),
        ]
    assert api.received() == 0
    export.write_bytes(b"uid,x\n,1\na,2\n")
    ended = cli.push("export.csv", "--column", "uid")
    assert ended.status == 0
    assert ended.document["rows"] == {"read": 2, "blank": 1, "invalid": 0, "excluded": 0}
    assert_balanced(ended.document)
    assert api.members() == {"a"}


@pytest.mark.parametrize(("tolerated", "status"), [(1, 1), (2, 0), (0.4, 1), (0.5, 0)])
def test_tolerated_rows_still_count_as_success(
    cli: CommandLine, tolerated: float, status: int
) -> None:
    cli.configure(accounting={"tolerate_invalid": tolerated})
    (cli.folder / "export.csv").write_bytes(b"uid,x\na,1\nb,1,1\nc\nd,1\n")
    ended = cli.push("export.csv", "--column", "uid")
    assert ended.status == status
    assert ended.document["rows"] == {"read": 4, "blank": 0, "invalid": 2, "excluded": 0}


def test_faults_of_every_kind_lose_nothing(
    cli: CommandLine, emulate: Callable[..., Emulator], tmp_path: Path
) -> None:
    poison = ("poison-1", "poison-2")
    api = emulate(
        *("--fault", "500=0.1:0.5", "--fault", "reset=0.06:1", "--fault", "hang=0.04:0.5"),
        *("--fault", "html=0.03", "--fault", "lie=0.03", "--fault", "truncated=0.03"),
        *("--fault-at", "413=7", "--poison", poison[0], "--poison", poison[1]),
    )
    cli.url = api.url
    cli.configure(delivery={"timeout_seconds": 0.6})
    expected = write_nasty_export(
        tmp_path / "nasty.csv.gz", 4_000, payload_bytes=2_000, poison=poison
    )
    ended = cli.push("nasty.csv.gz", "--column", "uid")
    accounts, report = ended.document, api.report()
    assert ended.status == 1
    assert_balanced(accounts)
    assert accounts["uids"]["unconfirmed"] == accounts["uids"]["pending"] == 0
    assert api.members() == expected.members
    rejects = cli.rejects(accounts["run"])
    assert [(reject["kind"], reject["record"]) for reject in rejects] == expected.rejects
    refused = [reject for reject in rejects if reject["request_id"]]
    assert [reject["uid"] for reject in refused] == list(poison)
    assert all("400" in reject["reason"] for reject in refused)
    assert accounts["requests"]["sent"] == report["requests"]["received"]
    assert accounts["requests"]["retried"] > 0
    assert accounts["requests"]["split"] > 2
    assert not report["breaches"]


def test_accounts_that_do_not_balance_are_reported(cli: CommandLine, api: Emulator) -> None:
    cli.write("export.txt")
    accounts = cli.push("export.txt").document
    cli.change("UPDATE batch SET invalid = invalid + 1 WHERE batch = 1")
    cli.change("UPDATE run SET status = 'incomplete'")
    ended = cli.push("export.txt")
    assert ended.status == 70
    assert ended.document["run"] == accounts["run"]
    assert ended.document["status"] == "unbalanced"
    assert "bug" in ended.stderr
    assert api.received() == accounts["requests"]["sent"], "nothing was sent again"
