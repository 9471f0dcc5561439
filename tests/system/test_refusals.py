"""What the API refuses, and what it does when it is not well."""

from collections.abc import Callable

import pytest
from emulated_api import Emulator
from nightly import CommandLine, assert_balanced


def test_a_wrong_key_costs_one_request(cli: CommandLine, api: Emulator) -> None:
    cli.write("export.txt")
    cli.variables["MOENGAGE_API_KEY"] = "some-other-key"
    ended = cli.push("export.txt")
    accounts = ended.document
    assert ended.status == 3
    assert accounts["status"] == "refused"
    assert api.received() == accounts["requests"]["sent"] == 1
    assert accounts["uids"]["pending"] == accounts["uids"]["planned"] > 0
    assert_balanced(accounts)
    assert "401" in accounts["reason"]
    assert "hint:" in ended.stderr
    assert "some-other-key" not in ended.stdout + ended.stderr


def test_the_right_key_goes_on_where_a_wrong_one_stopped(cli: CommandLine, api: Emulator) -> None:
    planned = cli.write("export.txt")
    cli.variables["MOENGAGE_API_KEY"] = "some-other-key"
    first = cli.push("export.txt")
    del cli.variables["MOENGAGE_API_KEY"]
    second = cli.push("export.txt")
    assert (second.status, second.document["run"]) == (0, first.document["run"])
    assert api.members() == planned


@pytest.mark.parametrize(
    ("flags", "requests", "said"),
    [
        (("--blocked", "NIGHTLY"), 1, "suspended"),
        (("--fault-at", "401=3"), 3, "401"),
    ],
)
def test_a_refusal_stops_the_run(
    cli: CommandLine, emulate: Callable[..., Emulator], flags: tuple[str], requests: int, said: str
) -> None:
    api = emulate(*flags)
    cli.url = api.url
    cli.configure(delivery={"max_in_flight": 1})
    cli.write("export.txt")
    ended = cli.push("export.txt")
    assert ended.status == 3
    assert api.received() == requests
    assert said in ended.stderr
    assert_balanced(ended.document)


def test_a_request_that_is_wrong_as_such_writes_nothing_off(
    cli: CommandLine, emulate: Callable[..., Emulator]
) -> None:
    planned = cli.write("export.txt")
    (cli.folder / "poison").write_text("\n".join(planned))
    api = emulate("--poison-file", str(cli.folder / "poison"), "--no-name-poison")
    cli.url = api.url
    cli.configure()
    ended = cli.push("export.txt")
    accounts = ended.document
    assert ended.status == 3
    assert api.received() <= 8
    assert accounts["uids"]["rejected"] == 0
    assert accounts["uids"]["pending"] == accounts["uids"]["planned"] > 0
    assert not cli.rejects(accounts["run"])


def test_a_search_for_rejected_uids_has_its_bounds(
    cli: CommandLine, emulate: Callable[..., Emulator]
) -> None:
    planned = cli.write("export.txt")
    (cli.folder / "poison").write_text("\n".join(sorted(planned)[100:]))
    api = emulate("--poison-file", str(cli.folder / "poison"))
    cli.url = api.url
    cli.configure(retry={"max_isolation_requests": 20})
    ended = cli.push("export.txt")
    accounts = ended.document
    assert ended.status == 3
    assert "max_isolation_requests" in ended.stderr
    assert accounts["uids"]["pending"] > 0
    assert_balanced(accounts)
    assert api.members() <= planned


def test_where_nothing_listens_the_run_ends_at_once(cli: CommandLine) -> None:
    cli.url = "http://127.0.0.1:9"
    cli.configure()
    cli.write("export.txt")
    ended = cli.push("export.txt")
    assert ended.status == 75
    assert ended.document["requests"]["sent"] == 0
    assert "`cohortsync emulator`" in ended.stderr
    assert_balanced(ended.document)


def test_an_api_that_stays_down_ends_the_run(
    cli: CommandLine, emulate: Callable[..., Emulator]
) -> None:
    api = emulate("--fault-at", "503=3-80")
    cli.url = api.url
    cli.configure(retry={"give_up_after_seconds": 0.2, "backoff_seconds": 0.01})
    planned = cli.write("export.txt", 600)
    ended = cli.push("export.txt")
    accounts = ended.document
    assert ended.status == 75
    assert "the API has not answered usefully" in accounts["reason"]
    assert "hint: `cohortsync check` shows" in ended.stderr
    assert accounts["uids"]["unconfirmed"] > 0
    assert_balanced(accounts)
    cli.configure(retry={"give_up_after_seconds": 60.0, "max_attempts": 100})
    last = cli.push("export.txt")
    assert last.status == 0
    assert last.document["uids"]["accepted"] == len(planned)


def test_what_is_left_unconfirmed_is_sent_by_the_next_command(
    cli: CommandLine, emulate: Callable[..., Emulator]
) -> None:
    api = emulate("--fault-at", "500=2")
    cli.url = api.url
    cli.configure(retry={"max_attempts": 1})
    planned = cli.write("export.txt")
    first = cli.push("export.txt")
    assert first.status == 75
    assert first.document["batches"]["unconfirmed"] == 1
    assert first.document["source_complete"]
    assert "not confirmed" in first.document["reason"]
    second = cli.push("export.txt")
    assert second.status == 0
    assert second.document["requests"]["retried"] == 1
    assert api.members() == planned


@pytest.mark.parametrize("form", ["seconds", "date", "none"])
def test_a_429_holds_everyone_and_loses_nothing(
    cli: CommandLine, emulate: Callable[..., Emulator], form: str
) -> None:
    api = emulate("--fault-at", "429=3", "--retry-after", form)
    cli.url = api.url
    cli.configure()
    planned = cli.write("export.txt")
    ended = cli.push("export.txt")
    assert ended.status == 0
    assert ended.document["requests"]["throttled"] == 1
    assert api.members() == planned
