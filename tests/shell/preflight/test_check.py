"""The preflight against servers on loopback that answer, refuse, hang or speak something else."""

import asyncio
import base64
import datetime as dt
import fcntl
import ipaddress
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from engine import Engine
from engine.cli.check import check
from engine.delivery.proxy import proxy_for
from engine.errors import ExitStatus
from engine.ledger.sqlite.migrations import MIGRATIONS
from engine.ledger.sqlite.schema import open_ledger
from engine.model.endpoint import Endpoint
from engine.pacing.pacer import Pacer
from engine.preflight.check import check_state
from engine.preflight.finding import CheckResult, Finding, FindingStatus
from engine.storage.paths import LEDGER_NAME, ledger_folder

KEY = "s3cr3t-key"
REFUSAL = {"status": "fail", "error": {"attribute": "members", "message": "required"}}
STEPS = ["configuration", "credentials", "state", "uids", "dns", "tcp", "tls", "key"]

Configure = Callable[..., Path]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    for name in ("COHORTSYNC_CONFIG", "MOENGAGE_WORKSPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOENGAGE_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    def write(endpoint: str, timeout_seconds: float = 10) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(
            f'[workspace]\nid = "DEMO"\nendpoint = "{endpoint}"\n'
            f"[delivery]\ntimeout_seconds = {timeout_seconds}\n",
            encoding="utf-8",
        )
        return path

    return write


async def findings_of(path: Path | None, *, live: bool = False) -> dict[str, Finding]:
    async with Engine.open(path, lazy=True) as engine:
        found = (await engine.check(live=live)).findings
    assert [finding.name for finding in found] == STEPS
    for finding in found:
        assert KEY not in f"{finding}"
        assert (finding.verdict is FindingStatus.FAILED) == (
            finding.exit_status is not ExitStatus.ACCEPTED
        )
    return {finding.name: finding for finding in found}


class Api:
    """Something at the API's address that always gives the same answer."""

    def __init__(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self.answer = (status, body, headers)
        self.requests: list[tuple[str, dict[str, str], Any]] = []

    async def respond(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, dict(request.headers), await request.json()))
        status, body, headers = self.answer
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.respond)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Listen on loopback, take connections and answer nothing; yields the port."""
    writers: list[asyncio.StreamWriter] = []

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Certificate and key of 127.0.0.1 in one file, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "loopback.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def refuse_lookup(*_: object, **__: object) -> NoReturn:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


# Without sending


async def test_a_sound_setup_passes_and_the_key_is_left_untested(configure: Configure) -> None:
    api = Api(400, REFUSAL)
    async with api.serving() as url:
        found = await findings_of(configure(url))
    assert {name: finding.verdict.value for name, finding in found.items()} == {
        "configuration": "ok",
        "credentials": "ok",
        "state": "ok",
        "uids": "ok",
        "dns": "skipped",
        "tcp": "ok",
        "tls": "skipped",
        "key": "skipped",
    }
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.ACCEPTED
    assert "EMULATOR 127.0.0.1:" in found["configuration"].detail
    assert found["credentials"].detail == "an API key from MOENGAGE_API_KEY"
    assert "only sending can" in found["key"].detail
    assert api.requests == []


async def test_the_names_of_loopback_are_looked_up(configure: Configure) -> None:
    async with listening() as port:
        found = await findings_of(configure(f"http://localhost:{port}"))
    assert found["dns"].verdict is FindingStatus.OK
    assert "127.0.0.1" in found["dns"].detail
    assert found["tcp"].detail == f"EMULATOR localhost:{port} accepts connections"


async def test_a_broken_configuration_is_the_only_finding(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[limit]\n[retries]\n", encoding="utf-8")
    found = await findings_of(path)
    assert len(found["configuration"].detail.splitlines()) == 4
    assert {found[name].verdict for name in STEPS[1:]} == {FindingStatus.SKIPPED}
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.USAGE


async def test_a_missing_key_is_distinguished_and_spares_the_live_request(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOENGAGE_API_KEY")
    api = Api(400, REFUSAL)
    async with api.serving() as url:
        found = await findings_of(configure(url), live=True)
    assert found["configuration"].verdict is FindingStatus.OK
    assert "no API key" in found["credentials"].detail
    assert found["tcp"].verdict is FindingStatus.OK
    assert found["key"].verdict is FindingStatus.SKIPPED
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.USAGE
    assert api.requests == []


async def test_in_a_pause_by_the_hour_the_key_is_not_tested(configure: Configure) -> None:
    api, now = Api(400, REFUSAL), datetime.now(UTC)
    start, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-2, 2))
    async with api.serving() as url:
        path = configure(url)
        pause = f'[[limits.hours]]\nfrom = "{start}"\nuntil = "{end}"\nrequests = 0\n'
        path.write_text(f'{path.read_text()}[sync]\ntime_zone = "UTC"\n{pause}')
        found = await findings_of(path, live=True)
    assert found["configuration"].detail.endswith(f"60 s, 0 from {start} to {end}")
    assert found["key"].verdict is FindingStatus.SKIPPED
    assert "`limits.hours` allow no request" in found["key"].detail
    assert api.requests == []


async def test_notes_of_the_configuration_are_shown(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOENGAGE_WORKSPACE_ID", "OTHER")
    async with listening() as port:
        found = await findings_of(configure(f"http://127.0.0.1:{port}"))
    assert "wins over `MOENGAGE_WORKSPACE_ID`" in (found["configuration"].hint or "")


async def test_nobody_on_loopback_hints_at_the_emulator(configure: Configure) -> None:
    async with listening() as port:
        pass
    found = await findings_of(configure(f"http://127.0.0.1:{port}"), live=True)
    assert found["tcp"].detail == f"127.0.0.1:{port}: Connection refused"
    assert "`cohortsync emulator` starts" in (found["tcp"].hint or "")
    assert found["tls"].verdict is found["key"].verdict is FindingStatus.SKIPPED
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.INCOMPLETE


async def test_an_unknown_name_ends_the_way_there(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", refuse_lookup)
    found = await findings_of(configure("https://api-01.moengage.com"))
    assert found["dns"].detail == "api-01.moengage.com has no address: Name or service not known"
    assert found["tcp"].verdict is found["tls"].verdict is FindingStatus.SKIPPED
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.INCOMPLETE


async def test_several_addresses_that_all_refuse_are_one_failure(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening() as port:
        pass
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
        for host in ("127.0.0.1", "127.0.0.2")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    found = await findings_of(configure(f"http://localhost:{port}"))
    assert found["dns"].detail == "localhost is 127.0.0.1, 127.0.0.2"
    assert found["tcp"].detail == f"localhost:{port}: none of its addresses accepts connections"


# TLS


async def test_a_certificate_that_a_known_authority_signed_passes(
    configure: Configure, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with listening(context) as port:
        found = await findings_of(configure(f"https://127.0.0.1:{port}"))
    assert found["tls"].verdict is FindingStatus.OK
    assert found["tls"].detail == "the certificate is valid"


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    configure: Configure, certificate: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with listening(context) as port:
        found = await findings_of(configure(f"https://127.0.0.1:{port}"), live=True)
    assert "the certificate is not valid: self-signed" in found["tls"].detail
    assert "SSL_CERT_FILE" in (found["tls"].hint or "")
    assert found["key"].verdict is FindingStatus.SKIPPED
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.USAGE


async def test_a_server_that_does_not_speak_tls_is_reported(configure: Configure) -> None:
    async with Api(400, REFUSAL).serving() as url:
        found = await findings_of(configure(url.replace("http", "https")))
    assert found["tcp"].verdict is FindingStatus.OK
    assert "TLS failed" in found["tls"].detail


async def test_a_server_that_never_answers_is_given_up(configure: Configure) -> None:
    async with listening() as port:
        found = await findings_of(configure(f"https://127.0.0.1:{port}", 0.1))
    assert found["tls"].detail == f"127.0.0.1:{port}: no answer within 0.1 s"


# Proxies


@pytest.mark.parametrize(
    ("endpoint", "proxy", "except_for", "found"),
    [
        ("https://example.com", "", "", None),
        ("https://example.com", "http://proxy.corp:3128", "", "http://proxy.corp:3128"),
        ("https://example.com", "http://u:p@proxy.corp", "", "http://proxy.corp:80"),
        ("https://example.com", "https://proxy.corp", "", "https://proxy.corp:443"),
        ("https://example.com", "proxy.corp:3128", "", "http://proxy.corp:3128"),
        ("https://example.com", "http://proxy.corp:3128", "example.com", None),
        ("https://127.0.0.1:1", "http://proxy.corp:3128", "", None),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
    endpoint: str,
    proxy: str,
    except_for: str,
    found: str | None,
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setenv("no_proxy", except_for)
    proxy = proxy_for(Endpoint.parse(endpoint))
    assert (proxy and proxy.url) == found


async def test_behind_a_proxy_only_the_way_to_it_is_tried(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening() as port:
        monkeypatch.setenv("https_proxy", f"http://user:{KEY}@127.0.0.1:{port}")
        found = await findings_of(configure("https://example.com"))
    assert found["dns"].detail == "left to the proxy"
    assert found["tcp"].detail == f"via proxy 127.0.0.1:{port}, which accepts connections"
    assert found["tls"].verdict is FindingStatus.SKIPPED
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.ACCEPTED


async def test_a_proxy_that_refuses_ends_the_way_there(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening() as port:
        pass
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    found = await findings_of(configure("https://example.com"), live=True)
    assert found["tcp"].detail == f"127.0.0.1:{port}: Connection refused"
    assert "firewall" in (found["tcp"].hint or "")
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.INCOMPLETE


async def test_a_proxy_that_is_no_url_is_the_configurations_fault(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://{KEY}:notaport")
    found = await findings_of(configure("https://example.com"))
    assert found["dns"].detail == "environment: `HTTPS_PROXY` should be a URL: http://host:port"
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.USAGE


async def test_a_ledger_of_an_older_version_is_in_order(configure: Configure) -> None:
    url = "http://127.0.0.1:9"
    path = configure(url)
    folder = ledger_folder(path.parent / "state", url, "DEMO")
    folder.mkdir(parents=True)
    open_ledger(folder / LEDGER_NAME, MIGRATIONS[:1]).close()
    state = (await findings_of(path))["state"]
    assert state.verdict is FindingStatus.OK
    assert state.detail.endswith("was written by an older version")
    assert state.hint == "the next push migrates it"


# The live request


async def test_the_live_request_names_no_members_and_carries_the_credentials(
    configure: Configure,
) -> None:
    api = Api(400, REFUSAL)
    async with api.serving() as url:
        found = await findings_of(configure(url), live=True)
    assert found["key"].verdict is FindingStatus.OK
    assert "the key is valid" in found["key"].detail
    ((path, headers, body),) = api.requests
    assert path == "/v1/integrations/cohortsync"
    assert headers["Authorization"] == f"Basic {base64.b64encode(f'DEMO:{KEY}'.encode()).decode()}"
    assert headers["MOE-APPKEY"] == "DEMO"
    assert headers["Content-Type"] == "application/json"
    assert body["action"] == "add_members"
    assert body["partner"] == "cohortsync"
    assert set(body["parameters"]) == {"cohort_id", "cohort_name"}


@pytest.mark.parametrize(
    ("status", "body", "code", "says"),
    [
        (401, REFUSAL, ExitStatus.REFUSED, "401: the key from MOENGAGE_API_KEY is not valid"),
        (403, REFUSAL, ExitStatus.REFUSED, "403: the account is blocked"),
        (400, "<html>", ExitStatus.REFUSED, "the answer is 400, which says nothing"),
        (400, {"message": "no"}, ExitStatus.REFUSED, "the answer is 400, which says nothing"),
        (200, {"status": "success"}, ExitStatus.REFUSED, "the answer is 200"),
        (404, "", ExitStatus.REFUSED, "the answer is 404"),
        (429, REFUSAL, ExitStatus.INCOMPLETE, "the answer is 429"),
        (500, REFUSAL, ExitStatus.INCOMPLETE, "the answer is 500"),
        (503, "<html>", ExitStatus.INCOMPLETE, "the answer is 503"),
    ],
)
async def test_an_answer_is_read_as_a_verdict_on_the_key(
    configure: Configure, status: int, body: object, code: ExitStatus, says: str
) -> None:
    async with Api(status, body).serving() as url:
        found = await findings_of(configure(url), live=True)
    assert says in found["key"].detail
    assert found["key"].hint
    assert CheckResult(tuple(found.values())).exit_status is code


@pytest.mark.parametrize(("status", "end"), [(400, "answered"), (429, "unanswered")])
async def test_the_pacer_is_told_of_the_end_of_the_live_request(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, status: int, end: str
) -> None:
    """Otherwise it would count as under way for as long as the session lasts."""
    ends: list[str] = []
    for name in ("answered", "unanswered"):
        monkeypatch.setattr(Pacer, name, lambda *_, name=name: ends.append(name))
    async with Api(status, REFUSAL).serving() as url:
        await findings_of(configure(url), live=True)
    assert ends == [end]


async def test_an_answer_in_pieces_is_read_to_its_end(configure: Configure) -> None:
    body = json.dumps(REFUSAL).encode()
    served = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"}}")
        except asyncio.IncompleteReadError:  # The step before only connects.
            writer.close()
            return
        head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:9])
        await writer.drain()
        await asyncio.sleep(0.05)  # so that the rest comes by itself
        writer.write(body[9:])
        writer.close()
        served.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await findings_of(configure(f"http://127.0.0.1:{port}"), live=True)
    assert served.is_set()
    assert found["key"].verdict is FindingStatus.OK


async def test_a_redirect_is_not_followed(configure: Configure) -> None:
    elsewhere = Api(400, REFUSAL)
    async with (
        elsewhere.serving() as target,
        Api(307, "", {"Location": target}).serving() as url,
    ):
        found = await findings_of(configure(url), live=True)
    assert "the answer is 307" in found["key"].detail
    assert elsewhere.requests == []


async def test_no_answer_to_the_live_request_is_reported(configure: Configure) -> None:
    async with listening() as port:
        found = await findings_of(configure(f"http://127.0.0.1:{port}", 0.1), live=True)
    assert found["key"].detail == f"EMULATOR 127.0.0.1:{port}: no answer within 0.1 s"
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.INCOMPLETE


async def test_a_connection_that_closes_without_an_answer_is_reported(configure: Configure) -> None:
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await findings_of(configure(f"http://127.0.0.1:{port}"), live=True)
    assert found["key"].verdict is FindingStatus.FAILED
    assert f"EMULATOR 127.0.0.1:{port}: " in found["key"].detail
    assert CheckResult(tuple(found.values())).exit_status is ExitStatus.INCOMPLETE


# The state folder


def test_a_state_folder_yet_to_be_made_is_not_made(tmp_path: Path) -> None:
    finding = check_state(tmp_path / "a" / "state")
    assert finding.verdict is FindingStatus.OK
    assert f"can be created, since {tmp_path} is writable and lockable" in finding.detail
    assert list(tmp_path.iterdir()) == []


def test_a_state_folder_that_is_there_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"content")
    assert check_state(tmp_path).detail == f"{tmp_path}: writable and lockable"
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_a_file_in_the_state_folders_place_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    finding = check_state(tmp_path / "state")
    assert finding.detail == f"{tmp_path / 'state'} cannot be written and locked: Not a directory"
    assert finding.exit_status is ExitStatus.USAGE


def test_a_state_folder_that_cannot_be_locked_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    finding = check_state(tmp_path)
    assert "cannot be written and locked: Operation not supported" in finding.detail
    assert list(tmp_path.iterdir()) == []


def test_a_network_file_system_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"36 25 0:32 / {tmp_path} rw - nfs4 server:/export rw\n"
    monkeypatch.setattr("engine.ledger.state_folder._mounts", lambda: mounts)
    finding = check_state(tmp_path / "state")
    assert "network file system (nfs4)" in finding.detail
    assert finding.exit_status is ExitStatus.USAGE


# The command


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(check)
    return app


def test_the_command_prints_a_line_for_each_finding(
    command: typer.Typer, configure: Configure
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        path = configure(f"http://127.0.0.1:{server.getsockname()[1]}")
        result = CliRunner().invoke(command, ["--config", str(path)])
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines() if line[0] != " "] == [
        ["ok", "configuration"],
        ["ok", "credentials"],
        ["ok", "state"],
        ["ok", "uids"],
        ["skipped", "dns"],
        ["ok", "tcp"],
        ["skipped", "tls"],
        ["skipped", "key"],
    ]


@pytest.mark.parametrize(("variables", "is_colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_the_verdicts_have_colors_unless_the_user_wants_none(
    command: typer.Typer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    is_colored: bool,  # noqa: FBT001 - from the table
) -> None:
    (tmp_path / "config.toml").write_text("[limit]\n", encoding="utf-8")
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    result = CliRunner().invoke(command, [], env=variables, color=True)
    assert ("\x1b[" in result.stdout) is is_colored


def test_the_command_shows_every_problem_and_hint_below_its_finding(
    command: typer.Typer, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("[limit]\n[retries]\n", encoding="utf-8")
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 2
    lines = [line for line in result.stdout.splitlines() if "unknown table" in line]
    assert lines[0].startswith("failed   configuration  config.toml: unknown table `limit`")
    assert lines[1].strip().startswith("config.toml: unknown table `retries`")

    port = socket.create_server(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{port.getsockname()[1]}"
    port.close()
    (tmp_path / "config.toml").write_text('[workspace]\nid = "DEMO"\n', encoding="utf-8")
    result = CliRunner().invoke(command, ["--endpoint", endpoint, "--state", "state", "--live"])
    assert result.exit_code == 75
    assert "hint: `cohortsync emulator` starts" in result.stdout
    assert f"{tmp_path / 'state'}: can be created" in " ".join(result.stdout.split())


def test_the_command_prints_exactly_one_document_when_asked(
    command: typer.Typer, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOENGAGE_API_KEY")
    with socket.create_server(("127.0.0.1", 0)) as server:
        path = configure(f"http://127.0.0.1:{server.getsockname()[1]}")
        result = CliRunner().invoke(command, ["--config", str(path), "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == document["exit_status"] == 2
    assert document["schema_version"] == 1
    assert document["status"] == "failed"
    assert [finding["name"] for finding in document["findings"]] == STEPS
    assert {finding["status"] for finding in document["findings"]} == {"ok", "failed", "skipped"}
    keys = {"name", "status", "detail", "hint", "workspace", "cohort"}
    assert all(set(each) == keys for each in document["findings"])
