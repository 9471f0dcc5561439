"""The emulated API over HTTP: what it takes, what it refuses, what it counts and remembers."""

import base64
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from engine.emulator import (
    EmulatorError,
    EmulatorSettings,
    LimiterModel,
    LimitSettings,
    RetryAfter,
    RunningEmulator,
    running,
)

WORKSPACES = {"W1": "key-1", "W2": "key-2"}
UNLIMITED = LimitSettings(model=LimiterModel.NONE)
ADDRESS = "/v1/integrations/cohortsync"


def basic(workspace: str, key: str) -> str:
    return f"Basic {base64.b64encode(f'{workspace}:{key}'.encode()).decode()}"


class Caller:
    """A client as plain as can be, which sees answers as they are."""

    def __init__(self, running: RunningEmulator, session: aiohttp.ClientSession) -> None:
        self.running = running
        self.emulator = running.emulator
        self.session = session

    async def send(
        self, body: object, *, workspace: str = "W1", address: str = ADDRESS, **headers: str | None
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        """POST a body; keyword headers replace the right ones, None leaves one out."""
        key = WORKSPACES.get(workspace, "no key")
        sent = {
            "Authorization": basic(workspace, key),
            "MOE-APPKEY": workspace,
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        async with self.session.post(
            self.running.url + address,
            data=body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={name: value for name, value in sent.items() if value is not None},
            skip_auto_headers=["Content-Type"],
        ) as response:
            return response.status, json.loads(await response.read()), response

    async def get(self, address: str) -> tuple[int, str]:
        async with self.session.get(f"{self.running.url}/_emulator/{address}") as response:
            return response.status, await response.text()

    async def report(self) -> dict[str, Any]:
        status, text = await self.get("report")
        assert status == 200
        report: dict[str, Any] = json.loads(text)
        return report


@asynccontextmanager
async def calling(**changes: object) -> AsyncIterator[Caller]:
    settings: dict[str, Any] = {"port": 0, "workspaces": WORKSPACES, "limits": UNLIMITED} | changes
    async with (
        running(EmulatorSettings(**settings)) as emulator,
        aiohttp.ClientSession() as session,
    ):
        yield Caller(emulator, session)


def members(
    uids: Iterable[str], *, action: str = "add", cohort_id: str = "c", partner: str = "p"
) -> dict[str, Any]:
    return {
        "action": f"{action}_members",
        "partner": partner,
        "parameters": {
            "cohort_name": "Name",
            "cohort_id": cohort_id,
            "members": [{"uid": uid} for uid in uids],
        },
    }


BODY = members(["a"])
OTHER_KEY = basic("W1", "key-2")


async def test_an_accepted_request_has_the_api_s_own_answer() -> None:
    async with calling() as caller:
        status, answer, response = await caller.send(BODY)
    assert status == 200
    assert response.content_type == "application/json"
    assert answer == {
        "status": "success",
        "message": "Your request has been accepted and will be processed soon.",
    }


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind", "breach"),
    [
        (BODY, {"Authorization": None}, 401, "Authentication required", "authorization_missing"),
        (BODY, {"Authorization": OTHER_KEY}, 401, "Authentication required", "key_mismatch"),
        (BODY, {"Authorization": "Bearer key-1"}, 401, "Authentication required", "key_mismatch"),
        (BODY, {"Authorization": "Basic %%%"}, 401, "Authentication required", "key_mismatch"),
        (BODY, {"workspace": "W3"}, 401, "Authentication required", "key_mismatch"),
        (BODY, {"MOE_APPKEY": None}, 401, "Authentication Mismatch", "app_key_mismatch"),
        (BODY, {"MOE_APPKEY": "W2"}, 401, "Authentication Mismatch", "app_key_mismatch"),
        (BODY, {"workspace": "W2"}, 403, "BlockedClient", None),
        (BODY, {"Content_Type": None}, 415, "Unsupported media type", "media_type"),
        (BODY, {"Content_Type": "text/plain"}, 415, "Unsupported media type", "media_type"),
        (
            *(BODY, {"Content_Type": "application/json; charset=latin-1"}),
            *(415, "Unsupported media type", "media_type"),
        ),
        (BODY, {"Content_Encoding": "gzip"}, 415, "Unsupported media type", "media_type"),
        (b'{"action":', {}, 400, "Malformed JSON", "malformed_json"),
        (b"\xff", {}, 400, "Malformed JSON", "malformed_json"),
        ({"action": "add_members"}, {}, 400, "MissingAttributeError", "missing_partner"),
        (members([""]), {}, 400, "InvalidAttributeError", "invalid_uid"),
        (members(["a" * 500]), {}, 413, "Payload too large", "over_size"),
        (BODY, {"address": "/v1/integrations/cohorts"}, 404, "Not Found", "wrong_address"),
    ],
)
async def test_a_refusal_has_the_api_s_error_body_and_is_counted(
    body: object, headers: dict[str, Any], status: int, kind: str, breach: str | None
) -> None:
    async with calling(max_bytes=400, blocked=frozenset({"W2"})) as caller:
        answered, answer, _ = await caller.send(body, **headers)
        report = await caller.report()
    assert answered == status
    assert answer["status"] == "fail"
    assert answer["error"]["type"] == kind
    assert answer["error"]["message"]
    assert len(answer["error"]["request_id"]) == 8
    assert ("attribute" in answer["error"]) == kind.endswith("AttributeError")
    assert report["breaches"] == ({breach: 1} if breach else {})
    assert report["requests"]["by_status"] == {str(status): 1}
    assert report["requests"]["accepted"] == 0
    assert report["uids"] == {"received": 0, "applied": 0}


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PURGE")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("address", "allowed", "breach"),
    [
        (ADDRESS, "POST", "wrong_method"),
        ("/_emulator/health", "GET", None),
        ("/_emulator/report", "GET", None),
        ("/_emulator/reset", "POST", None),
        ("/_emulator/cohorts/c/members", "GET", None),
        ("/", None, "wrong_address"),
        (ADDRESS + "/", None, "wrong_address"),
        ("/_emulator/nowhere", None, "wrong_address"),
    ],
)
async def test_each_method_at_each_address_is_allowed_or_405_and_404_is_of_addresses_alone(
    method: str, address: str, allowed: str | None, breach: str | None
) -> None:
    async with (
        calling() as caller,
        caller.session.request(method, caller.running.url + address, data=b"{}") as response,
    ):
        answered, headers = response.status, response.headers
        report = await caller.report()
    if method == allowed or (method, allowed) == ("HEAD", "GET"):
        assert answered not in {404, 405} or address.endswith("members")
    elif allowed is None:
        assert (answered, report["breaches"]) == (404, {breach: 1})
    else:
        assert (answered, headers["Allow"]) == (405, allowed)
        assert report["breaches"] == ({breach: 1} if breach else {})


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"'])
async def test_a_media_type_may_say_utf_8(charset: str) -> None:
    async with calling() as caller:
        status, _, _ = await caller.send(BODY, Content_Type=f"application/json; charset={charset}")
    assert status == 200


async def test_a_missing_field_is_named_as_the_api_names_it() -> None:
    async with calling() as caller:
        _, answer, _ = await caller.send({"partner": "p"})
    del answer["error"]["request_id"]
    assert answer["error"] == {
        "attribute": "action",
        "message": "action is not found in the payload",
        "type": "MissingAttributeError",
    }


async def test_the_limit_on_bytes_is_the_largest_body_that_passes() -> None:
    body = json.dumps(BODY).encode()
    async with calling(max_bytes=len(body)) as caller:
        assert (await caller.send(body))[0] == 200
        assert (await caller.send(body + b" "))[0] == 413


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 413)])
async def test_a_body_of_unknown_length_is_read_no_further_than_the_limit(
    extra: int, status: int
) -> None:
    body = json.dumps(BODY).encode().ljust(1000 + extra)

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 300):
            yield body[start : start + 300]

    async with calling(max_bytes=1000) as caller:
        async with caller.session.post(
            caller.running.url + ADDRESS,
            data=parts(),
            headers={
                "Authorization": basic("W1", "key-1"),
                "MOE-APPKEY": "W1",
                "Content-Type": "application/json",
            },
        ) as response:
            assert response.status == status
        assert (await caller.send(BODY))[0] == 200


async def test_a_header_sent_twice_is_a_breach_and_one_that_differs_is_refused() -> None:
    async with calling() as caller:
        for second, status in (("W1", 200), ("W2", 401)):
            headers = [
                ("Authorization", basic("W1", "key-1")),
                ("Content-Type", "application/json"),
                ("MOE-APPKEY", "W1"),
                ("MOE-APPKEY", second),
            ]
            async with caller.session.post(
                caller.running.url + ADDRESS, data=json.dumps(BODY), headers=headers
            ) as response:
                assert response.status == status
        report = await caller.report()
    assert report["breaches"] == {"app_key_mismatch": 1, "repeated_header": 2}


async def test_adds_and_removes_are_set_operations_on_a_cohort_made_by_first_use() -> None:
    async with calling() as caller:
        assert (await caller.get("cohorts/c/members"))[0] == 404
        await caller.send(members(["a", "b", "b", "007"]))
        await caller.send(members(["b", "zebra"], action="remove"))
        await caller.send(members(["a", "é\n"]))
        _, text = await caller.get("cohorts/c/members")
        report = await caller.report()
    assert {json.loads(line) for line in text.splitlines()} == {"a", "007", "é\n"}
    assert report["uids"] == {"received": 8, "applied": 8}
    assert report["cohorts"] == [
        {
            "workspace": "W1",
            "partner": "p",
            "cohort_id": "c",
            "cohort_name": "Name",
            "cohort_description": None,
            "members": 3,
            "requests": 3,
            "uids_added": 6,
            "uids_removed": 2,
        }
    ]


async def test_an_empty_cohort_has_an_empty_answer() -> None:
    async with calling() as caller:
        await caller.send(members(["a"], action="remove"))
        assert await caller.get("cohorts/c/members") == (200, "")


async def test_users_that_do_not_exist_are_ignored_without_a_word() -> None:
    async with calling(known_users=frozenset({"a", "b"})) as caller:
        status, answer, _ = await caller.send(members(["a", "stranger"]))
        assert (status, answer["status"]) == (200, "success")
        assert caller.emulator.members("c") == {"a"}
        assert (await caller.report())["uids"]["received"] == 2


async def test_cohorts_of_one_id_are_kept_apart_by_workspace_and_partner() -> None:
    async with calling() as caller:
        await caller.send(members(["a"], cohort_id="of/all"))
        await caller.send(members(["b"], cohort_id="of/all"), workspace="W2")
        await caller.send(members(["c"], cohort_id="of/all", partner="q"), workspace="W2")
        status, text = await caller.get("cohorts/of%2Fall/members")
        assert (status, len(json.loads(text)["cohorts"])) == (409, 3)
        with pytest.raises(LookupError):
            caller.emulator.members("of/all")
        assert await caller.get("cohorts/of%2Fall/members?workspace=W1") == (200, '"a"\n')
        chosen = "cohorts/of%2Fall/members?workspace=W2&partner=q"
        assert await caller.get(chosen) == (200, '"c"\n')


async def test_an_emulator_that_only_counts_keeps_no_members() -> None:
    async with calling(count_only=True) as caller:
        await caller.send(members(["a", "b"]))
        assert (await caller.get("cohorts/c/members"))[0] == 409
        (cohort,) = (await caller.report())["cohorts"]
    assert (cohort["members"], cohort["uids_added"]) == (None, 2)


async def test_a_cohort_larger_than_one_write_is_streamed_whole() -> None:
    uids = {f"{number:05}" for number in range(25_000)}
    async with calling(max_bytes=1_000_000) as caller:
        await caller.send(members(uids))
        _, text = await caller.get("cohorts/c/members")
    assert sorted(json.loads(line) for line in text.splitlines()) == sorted(uids)


async def test_health_shows_the_emulator_from_the_api() -> None:
    async with calling() as caller:
        assert json.loads((await caller.get("health"))[1]) == {"emulator": "cohortsync"}


async def test_a_reset_forgets_cohorts_counts_and_what_the_limit_holds() -> None:
    async with calling(limits=LimitSettings(requests=1, per_seconds=600)) as caller:
        assert [(await caller.send(BODY))[0] for _ in range(2)] == [200, 429]
        async with caller.session.post(f"{caller.running.url}/_emulator/reset") as response:
            assert response.status == 200
        report = await caller.report()
        assert (report["requests"]["received"], report["cohorts"]) == (0, [])
        assert (await caller.send(BODY))[0] == 200


async def test_the_limit_is_each_workspace_s_and_one_too_many_is_a_breach() -> None:
    async with calling(limits=LimitSettings(requests=2, per_seconds=600)) as caller:
        first = [await caller.send(BODY) for _ in range(4)]
        other = await caller.send(BODY, workspace="W2")
        await caller.send(BODY, Authorization=OTHER_KEY)
        report = await caller.report()
    assert [status for status, _, _ in (*first, other)] == [200, 200, 429, 429, 200]
    _, answer, response = first[-1]
    assert answer["error"]["type"] == "Rate Limits Exceeded"
    assert "attribute" not in answer["error"]
    assert not {"Retry-After", "X-RateLimit-Limit"} & set(response.headers)
    assert report["workspaces"] == {
        "W1": {"requests": 4, "most_in_window": 4, "window_seconds": 600},
        "W2": {"requests": 1, "most_in_window": 1, "window_seconds": 600},
    }
    assert report["breaches"] == {"key_mismatch": 1, "over_ceiling": 2}
    assert report["requests"]["accepted"] == 3


async def test_a_lifted_limit_has_no_ceiling_to_breach() -> None:
    limits = LimitSettings(model=LimiterModel.NONE, requests=1, per_seconds=600)
    async with calling(limits=limits) as caller:
        assert [(await caller.send(BODY))[0] for _ in range(3)] == [200, 200, 200]
        report = await caller.report()
    assert report["workspaces"]["W1"]["most_in_window"] == 3
    assert report["breaches"] == {}


async def test_the_headers_of_the_limit_are_there_when_asked_for() -> None:
    limits = LimitSettings(
        requests=2, per_seconds=600, rate_headers=True, retry_after=RetryAfter.SECONDS
    )
    async with calling(limits=limits) as caller:
        answers = [await caller.send(BODY) for _ in range(3)]
    headers = [response.headers for _, _, response in answers]
    assert [each["X-RateLimit-Limit"] for each in headers] == ["2", "2", "2"]
    assert [each["X-RateLimit-Remaining"] for each in headers] == ["1", "0", "0"]
    assert headers[0]["X-RateLimit-Reset"] == "0"
    assert 1 <= int(headers[2]["X-RateLimit-Reset"]) <= 600
    assert "Retry-After" not in headers[1]
    assert 1 <= int(headers[2]["Retry-After"]) <= 600


async def test_retry_after_can_be_a_date() -> None:
    limits = LimitSettings(requests=1, per_seconds=600, retry_after=RetryAfter.DATE)
    async with calling(limits=limits) as caller:
        await caller.send(BODY)
        _, _, response = await caller.send(BODY)
    assert response.headers["Retry-After"].endswith(" GMT")


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 65_536},
        {"workspaces": {}},
        {"workspaces": {"a:b": "key"}},
        {"max_bytes": 0},
        {"blocked": frozenset({"nobody"})},
        {"host": "0.0.0.0"},  # noqa: S104  what must be refused
        {"host": "example.com"},
    ],
)
def test_settings_that_make_no_emulator_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(EmulatorError):
        EmulatorSettings(**wrong)


def test_settings_show_no_key_and_no_uid() -> None:
    shown = repr(EmulatorSettings(workspaces={"W": "sesame"}, known_users=frozenset({"someone"})))
    assert "sesame" not in shown
    assert "someone" not in shown


async def test_a_port_in_use_is_one_clear_error() -> None:
    async with running(EmulatorSettings(port=0)) as first:
        with pytest.raises(EmulatorError, match="cannot listen"):
            async with running(EmulatorSettings(port=first.port)):
                pass


async def test_ipv6_s_loopback_has_a_url_too() -> None:
    try:
        async with running(EmulatorSettings(host="::1", port=0)) as emulator:
            assert emulator.url == f"http://[::1]:{emulator.port}"
    except EmulatorError:
        pytest.skip("this machine has no IPv6")
