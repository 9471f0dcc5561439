"""Whole runs through a proxy: what it receives, and what its answers lead to."""

import base64
import json
import logging
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stage import numbered
from tunnel import HOST, Api, ProxyServer, certificate, tunnel
from whole_push import COHORT, ExportSource

from engine import Engine
from engine.config.loading import Config, load
from engine.errors import ConfigError, ExitStatus
from engine.model.cohort import Action
from engine.preflight.finding import CheckResult, Finding
from engine.report.run_results import RunResult
from engine.runs.context import NOBODY, RunObservers
from engine.runs.mirror import mirror
from engine.runs.planner import MirrorRequest
from engine.runs.push import push
from engine.runs.push_admission import PushRequest
from engine.runs.session import WorkspaceSession

KEY, PASSWORD = "s3cr3t-key", "pr0xy-pass"
PAIR = base64.b64encode(f"DEMO:{KEY}".encode())
REFUSAL = json.dumps({"status": "fail", "error": {"attribute": "members", "message": "required"}})

Run = Callable[[Config], Coroutine[Any, Any, RunResult]]


@dataclass
class Scene:
    """A configuration, and the environment that leads to a proxy."""

    folder: Path
    environment: pytest.MonkeyPatch
    pem: Path
    """The certificate of the API, which this machine trusts."""

    @property
    def path(self) -> Path:
        return self.folder / "config.toml"

    @property
    def config(self) -> Config:
        return load(self.path)

    def through(self, proxy: str) -> None:
        self.environment.setenv("HTTPS_PROXY", proxy)

    async def check(self) -> dict[str, Finding]:
        async with Engine.open(self.path, lazy=True) as engine:
            result = await engine.check(live=True)
        return {finding.name: finding for finding in result.findings}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("MOENGAGE_API_KEY", KEY)
    pem = certificate(tmp_path / "api.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    (tmp_path / "config.toml").write_text(
        f'[workspace]\nid = "DEMO"\nendpoint = "https://{HOST}"\n'
        "[retry]\nbackoff_seconds = 0.01\nmax_attempts = 2\n"
        "give_up_after_seconds = 0.2\ngive_up_throttled_after_seconds = 0.2\n"
        "[delivery]\ntimeout_seconds = 10\n",
        encoding="utf-8",
    )
    return Scene(tmp_path, monkeypatch, pem)


async def run_push(config: Config, observers: RunObservers = NOBODY) -> RunResult:
    source = ExportSource(numbered(10))
    request = PushRequest(source, source.spec, COHORT, Action.ADD)
    async with WorkspaceSession(config) as session:
        return await push(request, session, observers)


async def run_mirror(config: Config, observers: RunObservers = NOBODY) -> RunResult:
    source = ExportSource(numbered(10))
    async with WorkspaceSession(config) as session:
        return await mirror(MirrorRequest(source, source.spec, COHORT), session, observers)


RUNS = {"push": run_push, "mirror": run_mirror}
CREDENTIALS = {"none": "", "plain": f"ada:{PASSWORD}@", "encoded": "ada:%E2%82%AC%40@"}


@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize("command", [*RUNS, "check"])
async def test_a_proxy_gets_the_host_and_its_own_credentials_alone(
    scene: Scene, command: str, credentials: str
) -> None:
    userinfo = CREDENTIALS[credentials]
    api, proxy = Api(), ProxyServer()
    if command == "check":
        api.status, api.body = 400, REFUSAL
    async with tunnel(api, proxy, scene.pem) as port:
        scene.through(f"http://{userinfo}127.0.0.1:{port}")
        if command == "check":
            assert (
                CheckResult(tuple((await scene.check()).values())).exit_status
                is ExitStatus.ACCEPTED
            )
        else:
            result = await RUNS[command](scene.config)
            assert result.exit_status is ExitStatus.ACCEPTED
    # The API has all of its headers; the proxy has none of them.
    [request] = api.requests
    assert request["Authorization"] == f"Basic {PAIR.decode()}"
    assert request["MOE-APPKEY"] == "DEMO"
    assert "Proxy-Authorization" not in request
    [head], [headers] = [head for head in proxy.heads if head], proxy.headers()
    assert head.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode())
    own = {"none": None, "plain": f"ada:{PASSWORD}", "encoded": "ada:\u20ac@"}[credentials]
    expected = f"Basic {base64.b64encode(own.encode()).decode()}" if own else None
    assert headers.pop("Proxy-Authorization", None) == expected
    # The client's library adds what it adds to any request.
    assert set(headers) <= {"Host", "Accept", "Accept-Encoding", "User-Agent"}
    for secret in (KEY.encode(), PAIR, b"DEMO", b"MOE-APPKEY", b"u0001", b"cohort"):
        assert secret not in proxy.received


async def test_requests_share_a_tunnel(scene: Scene) -> None:
    with scene.path.open("a", encoding="utf-8") as file:
        file.write("[limits]\npayload_bytes = 150\n")
    api, proxy = Api(), ProxyServer()
    async with tunnel(api, proxy, scene.pem) as port:
        scene.through(f"http://ada:{PASSWORD}@127.0.0.1:{port}")
        assert (await run_push(scene.config)).exit_status is ExitStatus.ACCEPTED
    assert len(api.requests) >= 5
    assert len(proxy.heads) < len(api.requests)


@pytest.mark.parametrize("command", RUNS)
async def test_an_https_proxy_is_spoken_to_over_tls(scene: Scene, command: str) -> None:
    api, proxy = Api(), ProxyServer()
    async with tunnel(api, proxy, scene.pem, proxy_pem=scene.pem) as port:
        scene.through(f"https://ada:{PASSWORD}@127.0.0.1:{port}")
        result = await RUNS[command](scene.config)
    assert result.exit_status is ExitStatus.ACCEPTED
    assert len(api.requests) == 1


def status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} Whatever {PASSWORD}\r\nContent-Length: 0\r\n\r\n".encode()


LASTING = {
    "407": (status_line(407), "the proxy answered 407", "http://user:password@"),
    "403": (status_line(403), "the proxy answered 403", "NO_PROXY"),
    "302": (status_line(302), "the proxy answered 302", "CONNECT"),
    "511": (status_line(511), "the proxy answered 511", "CONNECT"),
    "garbage": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "the answer is not HTTP", "CONNECT"),
}


@pytest.mark.parametrize(
    ("command", "answer"), [("mirror", "407"), *(("push", answer) for answer in LASTING)]
)
async def test_what_a_proxy_goes_on_refusing_ends_the_run_at_once(
    scene: Scene, command: str, answer: str
) -> None:
    said, reason, hint = LASTING[answer]
    api, proxy = Api(), ProxyServer(said)
    async with tunnel(api, proxy, scene.pem) as port:
        scene.through(f"http://ada:{PASSWORD}@127.0.0.1:{port}")
        result = await RUNS[command](scene.config)
        assert len(proxy.heads) == 1
        assert result.exit_status is ExitStatus.USAGE
        assert (result.accounts.status, result.accounts.reason) == ("failed", reason)
        assert "HTTPS_PROXY" in (result.hint or "")
        assert hint in (result.hint or "")
        assert result.accounts.uids.unconfirmed == 0
        assert result.accounts.imbalance is None
        assert PASSWORD not in repr(result)
        found = (await scene.check())["key"]
        assert found.exit_status is ExitStatus.USAGE
        assert found.detail == f"{HOST}: {reason}"
        # With the right proxy the same command goes on.
        proxy.answer = None
        again = await RUNS[command](scene.config)
    assert again.exit_status is ExitStatus.ACCEPTED
    if command == "push":
        assert again.accounts.run == result.accounts.run


@pytest.mark.parametrize("status", [408, 429, 503])
async def test_what_may_pass_at_a_proxy_is_tried_again(scene: Scene, status: int) -> None:
    api, proxy = Api(), ProxyServer(status_line(status), passes_after=2)
    async with tunnel(api, proxy, scene.pem) as port:
        scene.through(f"127.0.0.1:{port}")
        result = await run_push(scene.config)
    assert result.exit_status is ExitStatus.ACCEPTED
    assert len(proxy.heads) == 3
    assert len(api.requests) == 1


async def test_a_proxy_that_stays_down_is_given_up_later(scene: Scene) -> None:
    proxy = ProxyServer(status_line(503))
    async with tunnel(Api(), proxy, scene.pem) as port:
        scene.through(f"127.0.0.1:{port}")
        result = await run_push(scene.config)
        assert result.exit_status is ExitStatus.INCOMPLETE
        assert "the proxy answered 503" in (result.accounts.reason or "")
        found = (await scene.check())["key"]
    assert found.exit_status is ExitStatus.INCOMPLETE
    assert found.detail == f"{HOST}: the proxy answered 503"


UNTRUSTED: dict[str, tuple[dict[str, Any], str]] = {
    "self-signed certificate": ({}, "SSL_CERT_FILE"),
    "certificate has expired": ({"days": -3}, "clock"),
    "Hostname mismatch": ({"host": "other.invalid"}, "SSL_CERT_FILE"),
}


@pytest.mark.parametrize("fault", UNTRUSTED)
@pytest.mark.parametrize("command", [*RUNS, "check"])
async def test_a_certificate_that_is_not_trusted_ends_the_run_at_once(
    scene: Scene,
    command: str,
    fault: str,
) -> None:
    made, hint = UNTRUSTED[fault]
    other = certificate(scene.folder / "other.pem", **made)
    if made:  # Its authority is known; what it says is wrong.
        scene.environment.setenv("SSL_CERT_FILE", str(other))
    api, proxy = Api(), ProxyServer()
    async with tunnel(api, proxy, other) as port:
        scene.through(f"127.0.0.1:{port}")
        if command == "check":
            found = (await scene.check())["key"]
            status, reason, advice = found.exit_status, found.detail, found.hint
        else:
            result = await RUNS[command](scene.config)
            status, reason, advice = result.exit_status, result.accounts.reason, result.hint
            assert result.accounts.status == "failed"
    assert status is ExitStatus.USAGE
    assert f"the certificate of {HOST} is not trusted: " in (reason or "")
    assert fault in (reason or "")
    assert hint in (advice or "")
    assert len(proxy.heads) == 1
    assert api.requests == []


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1080", "http://[bad"])
@pytest.mark.parametrize("command", RUNS)
async def test_a_malformed_proxy_is_refused_before_a_run_is_entered(
    scene: Scene, command: str, value: str
) -> None:
    scene.through(value)
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        await RUNS[command](scene.config)
    assert not (scene.folder / "state").exists()
    found = await scene.check()
    assert "HTTPS_PROXY" in found["dns"].detail
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.USAGE


@pytest.mark.parametrize(
    ("command", "status"),
    [("push", 400), ("push", 429), ("push", 500), ("mirror", 401)],
)
async def test_credentials_that_an_answer_repeats_are_kept_nowhere(
    scene: Scene,
    caplog: pytest.LogCaptureFixture,
    command: str,
    status: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"{KEY} {PAIR.decode()} DEMO:{KEY} {PASSWORD}"
    error = dict.fromkeys(("type", "attribute", "message", "request_id"), echo)
    api = Api(status, json.dumps({"status": "fail", "error": error}), {"Retry-After": "0"})
    events: list[object] = []
    async with tunnel(api, ProxyServer(), scene.pem) as port:
        scene.through(f"http://ada:{PASSWORD}@127.0.0.1:{port}")
        result = await RUNS[command](scene.config, RunObservers(observe=events.append))
        findings = await scene.check()
    assert api.requests
    [ledger] = scene.folder.glob("state/*/*/ledger.sqlite")
    with closing(sqlite3.connect(ledger)) as connection:
        dump = "\n".join(connection.iterdump())
    assert "***" in dump
    kept = [repr(result), repr(events), repr(findings), dump, caplog.text]
    for secret in (KEY, PAIR.decode(), PASSWORD):
        assert not any(secret in each for each in kept)
