"""The report for the vendor's support: groups of requests, and reasons without uids."""

import pytest

from engine.ledger.run_records import AttemptRecord
from engine.report.support import MOST_REQUEST_IDS, answer_groups, without_uids

SECOND = 1_000_000_000


def attempt(number: int, outcome: str | None, status: int | None, reason: str | None = None):  # noqa: ANN201 - see the next line
    return AttemptRecord(
        *(number, None, 0, 5, 100, "pending", 1, number * SECOND, number * SECOND, None),
        *(outcome, status, f"request-{number}" if status else None, reason, False),
    )


def test_requests_are_grouped_by_outcome_and_reason_the_accepted_last() -> None:
    batch_without_attempt = attempt(9, None, None)._replace(attempt=None)
    found = answer_groups(
        [
            *(attempt(number, "accepted", 200) for number in range(1, 6)),
            attempt(6, "unconfirmed", 503, "503"),
            attempt(7, "unconfirmed", 503, "503"),
            attempt(8, None, None),
            batch_without_attempt,
        ],
        (),
    )
    assert [(each.outcome, each.requests, each.uids) for each in found] == [
        ("unconfirmed", 2, 10),
        ("none", 1, 5),
        ("accepted", 5, 25),
    ]
    assert found[0].first_sent_at == "1970-01-01T00:00:06.000+00:00"
    assert found[0].last_sent_at == "1970-01-01T00:00:07.000+00:00"
    assert found[0].request_ids == ["request-6", "request-7"]
    assert found[1].request_ids == []


def test_of_many_request_ids_the_first_and_the_last_are_listed() -> None:
    [group] = answer_groups([attempt(n, "throttled", 429) for n in range(100)], ())
    half = MOST_REQUEST_IDS // 2
    numbers = [*range(half), *range(100 - half, 100)]
    assert group.request_ids == [f"request-{number}" for number in numbers]
    assert group.requests == 100


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("503", "503"),
        ("400: InvalidAttributeError: uid", "400: InvalidAttributeError: uid"),
        ("400: Invalid: ada lovelace", "400: Invalid: ***"),
        ("400: Invalid: members.ada@example.com.uid", "400: Invalid: ***"),
        ("400: Invalid: parameters.members[17].uid", "400: Invalid: ***"),
        ("400: 400 is no uid", "400: *** is no uid"),
    ],
)
def test_a_reason_holds_no_uid(reason: str, shown: str) -> None:
    assert without_uids(reason, {"ada", "ada lovelace", "400"}) == shown


def test_the_reasons_of_groups_hold_no_rejected_uid() -> None:
    refused = attempt(1, "rejected", 400, "400: Invalid: uid ada")
    unsent = attempt(2, "not_sent", None, "no connection to the proxy 127.0.0.1:3128")
    found = answer_groups([refused, unsent], {"ada"})
    assert [each.reason for each in found] == ["400: Invalid: uid ***", unsent.reason]
