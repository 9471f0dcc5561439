"""What a server refuses is one clear error without the password; a user needs few rights."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from shared_host import PREFIX, Hosts

from engine.coordination import coordination
from engine.coordination import server as server_module
from engine.coordination.address import Address
from engine.coordination.coordination import SharedLimits
from engine.coordination.inquiry import ceiling_now
from engine.coordination.server import ServerAccess
from engine.coordination.settings import SharedSettings
from engine.errors import CohortSyncError, ConfigError
from engine.pacing.settings import PacingSettings
from valkey_server import ValkeyServer, valkey

RIGHTS = "~cohortsync:* +@read +@write +@scripting +@connection +time +info"
"""Those that docs/hosts.md names."""
PACING = PacingSettings(20, 0.5)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("valkey")) as started:
        with started.client() as client:
            client.execute_command("ACL", "SETUSER", "limited", "on", ">s3cret", *RIGHTS.split())
            client.execute_command("ACL", "SETUSER", "nobody", "on", ">s3cret", "+@connection")
            client.execute_command("ACL", "SETUSER", "default", "off")
        yield started


def hosts_of(server: ValkeyServer, user: str, password: str | None) -> Hosts:
    return Hosts(f"redis://{user}@127.0.0.1:{server.port}", PACING, lambda: password)


async def test_a_user_with_the_documented_rights_is_enough(server: ValkeyServer) -> None:
    hosts = hosts_of(server, "limited", "s3cret")
    async with hosts.host("a") as host:
        await host.exchange(2)
    address, _ = Address.parse(hosts.url)
    limits = SharedLimits(ServerAccess(address, lambda: "s3cret"), SharedSettings(hosts.url))
    found = await ceiling_now(limits, PREFIX, PACING)
    assert found.requests == 20


@pytest.mark.parametrize(
    ("user", "password"),
    [("limited", "wr0ng"), ("limited", None), ("nobody", "s3cret"), ("default", "s3cret")],
)
async def test_a_refusal_is_one_clear_error(
    server: ValkeyServer, user: str, password: str | None
) -> None:
    with pytest.raises(ConfigError, match="refuses this process") as caught:
        async with hosts_of(server, user, password).host("a"):
            pass
    shown = f"{caught.value.message} {caught.value.hint}"
    assert "limits.shared_password_file" in shown
    assert "s3cret" not in shown
    assert "wr0ng" not in shown


async def test_a_server_without_tls_is_an_error(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = replace(hosts_of(server, "limited", "s3cret"), url=f"rediss://127.0.0.1:{server.port}")
    monkeypatch.setattr(coordination, "START_SECONDS", 0.0)
    monkeypatch.setattr(server_module, "STEP_SECONDS", 0.1)
    with pytest.raises(CohortSyncError, match="rediss://127"):
        async with hosts.host("a"):
            pass


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ValkeyServer, Path]]:
    """Run a server that speaks TLS only, and yield its certificate, which it has signed itself."""
    program, openssl = shutil.which("redis-server", path="/usr/bin"), shutil.which("openssl")
    if program is None or openssl is None:
        pytest.skip("needs Debian's redis-server, since the wheel's speaks no TLS, and openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, *command], check=True, capture_output=True)
    server = ValkeyServer(folder, ("--port", "0"), program)
    server.options += ("--tls-port", str(server.port), "--tls-auth-clients", "no")
    server.options += ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    server.start()
    try:
        yield server, certificate
    finally:
        server.kill()


async def test_tls_checks_the_certificate_of_the_server(
    encrypted: tuple[ValkeyServer, Path],
) -> None:
    server, certificate = encrypted
    url = f"rediss://127.0.0.1:{server.port}"
    async with Hosts(url, PacingSettings(20, 0.05), ca_file=str(certificate)).host("a") as host:
        await host.exchange()
    with pytest.raises(ConfigError, match="refuses this process") as caught:
        async with Hosts(url, PACING).host("a"):
            pass
    assert "shared_ca_file" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="is no file"):
        async with Hosts(url, PACING, ca_file="missing.pem").host("a"):
            pass
