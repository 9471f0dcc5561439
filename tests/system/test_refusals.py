"""What the API refuses, and what it does when it is not well."""

from collections.abc import Callable

import pytest
from emulated_api import Emulator
from nightly import Night, assert_balanced


def test_a_wrong_key_costs_one_request(night: Night, api: Emulator) -> None:
    night.write("export.txt")
    night.variables["MOENGAGE_API_KEY"] = "some-other-key"
    ended = night.push("export.txt")
    books = ended.document
    assert ended.status == 3
    assert books["status"] == "refused"
    assert api.received() == books["requests"]["sent"] == 1
    assert books["uids"]["pending"] == books["uids"]["planned"] > 0
    assert_balanced(books)
    assert "401" in books["reason"]
    assert "hint:" in ended.stderr
    assert "some-other-key" not in ended.stdout + ended.stderr


def test_the_right_key_goes_on_where_a_wrong_one_stopped(night: Night, api: Emulator) -> None:
    planned = night.write("export.txt")
    night.variables["MOENGAGE_API_KEY"] = "some-other-key"
    first = night.push("export.txt")
    del night.variables["MOENGAGE_API_KEY"]
    second = night.push("export.txt")
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
    night: Night, emulate: Callable[..., Emulator], flags: tuple[str], requests: int, said: str
) -> None:
    api = emulate(*flags)
    night.url = api.url
    night.configure(delivery={"max_in_flight": 1})
    night.write("export.txt")
    ended = night.push("export.txt")
    assert ended.status == 3
    assert api.received() == requests
    assert said in ended.stderr
    assert_balanced(ended.document)


def test_a_request_that_is_wrong_as_such_writes_nothing_off(
    night: Night, emulate: Callable[..., Emulator]
) -> None:
    planned = night.write("export.txt")
    (night.folder / "poison").write_text("\n".join(planned))
    api = emulate("--poison-file", str(night.folder / "poison"), "--no-name-poison")
    night.url = api.url
    night.configure()
    ended = night.push("export.txt")
    books = ended.document
    assert ended.status == 3
    assert api.received() <= 8
    assert books["uids"]["rejected"] == 0
    assert books["uids"]["pending"] == books["uids"]["planned"] > 0
    assert not night.rejects(books["run"])


def test_a_search_for_rejected_uids_has_its_bounds(
    night: Night, emulate: Callable[..., Emulator]
) -> None:
    planned = night.write("export.txt")
    (night.folder / "poison").write_text("\n".join(sorted(planned)[100:]))
    api = emulate("--poison-file", str(night.folder / "poison"))
    night.url = api.url
    night.configure(retry={"max_isolation_requests": 20})
    ended = night.push("export.txt")
    books = ended.document
    assert ended.status == 3
    assert "max_isolation_requests" in ended.stderr
    assert books["uids"]["pending"] > 0
    assert_balanced(books)
    assert api.members() <= planned


def test_where_nothing_listens_the_run_ends_at_once(night: Night) -> None:
    night.url = "http://127.0.0.1:9"
    night.configure()
    night.write("export.txt")
    ended = night.push("export.txt")
    assert ended.status == 75
    assert ended.document["requests"]["sent"] == 0
    assert "`cohortsync emulator`" in ended.stderr
    assert_balanced(ended.document)


def test_an_api_that_stays_down_ends_the_run(
    night: Night, emulate: Callable[..., Emulator]
) -> None:
    api = emulate("--fault-at", "503=3-80")
    night.url = api.url
    night.configure(retry={"give_up_after_seconds": 0.2, "backoff_seconds": 0.01})
    planned = night.write("export.txt", 600)
    ended = night.push("export.txt")
    books = ended.document
    assert ended.status == 75
    assert "the API has not answered usefully" in books["reason"]
    assert "hint: `cohortsync check` shows" in ended.stderr
    assert books["uids"]["unconfirmed"] > 0
    assert_balanced(books)
    night.configure(retry={"give_up_after_seconds": 60.0, "max_attempts": 100})
    last = night.push("export.txt")
    assert last.status == 0
    assert last.document["uids"]["accepted"] == len(planned)


def test_what_is_left_unconfirmed_is_sent_by_the_next_command(
    night: Night, emulate: Callable[..., Emulator]
) -> None:
    api = emulate("--fault-at", "500=2")
    night.url = api.url
    night.configure(retry={"max_attempts": 1})
    planned = night.write("export.txt")
    first = night.push("export.txt")
    assert first.status == 75
    assert first.document["batches"]["unconfirmed"] == 1
    assert first.document["source_complete"]
    assert "not confirmed" in first.document["reason"]
    second = night.push("export.txt")
    assert second.status == 0
    assert second.document["requests"]["retried"] == 1
    assert api.members() == planned


@pytest.mark.parametrize("form", ["seconds", "date", "none"])
def test_a_429_holds_everyone_and_loses_nothing(
    night: Night, emulate: Callable[..., Emulator], form: str
) -> None:
    api = emulate("--fault-at", "429=3", "--retry-after", form)
    night.url = api.url
    night.configure()
    planned = night.write("export.txt")
    ended = night.push("export.txt")
    assert ended.status == 0
    assert ended.document["requests"]["throttled"] == 1
    assert api.members() == planned
