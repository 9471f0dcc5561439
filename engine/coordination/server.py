"""A Redis or Valkey server: scripts are run by it, and its errors are translated."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine.coordination.address import Address
from engine.errors import CohortSyncError, ConfigError, IncompleteError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

Reply = list[Any]
"""The numbers and bytes that a script has returned."""

STEP_SECONDS = 2.0
"""The longest wait for a connection, and for the answer of a step."""


class UnreachableError(IncompleteError):
    """The server does not answer now; it may do so later."""


class ServerRefusedError(ConfigError):
    """The server refuses this process: password, rights, certificate, or no such script."""


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """Where the server is, and how to log in."""

    address: Address
    password: Callable[[], str | None]
    """Reads the password now, since it may change; raises `ConfigError`. May block."""
    ca_file: str | None = None


class Server:
    """A connection to the server, which is opened when it is first needed."""

    def __init__(self, access: ServerAccess) -> None:
        self.label = access.address.label
        self._access = access
        self._client: Redis | None = None
        self._scripts: dict[str, AsyncScript] = {}

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[object]) -> Reply:
        """Run a script of this package by name.

        Raises `UnreachableError`, and `ServerRefusedError`.
        """
        client = await self._connected()
        found = self._scripts.get(script)
        if found is None:
            found = self._scripts[script] = client.register_script(_source(script))
        texts = [str(each) for each in arguments]
        answer = found(keys=list(keys), args=texts)
        return cast("Reply", await self._to_end(answer))

    async def ask(self, *command: str) -> Any:  # noqa: ANN401 - what the server answers
        """Return the answer to a command; raises as `run` does."""
        client = await self._connected()
        answer = client.execute_command(*command)  # type: ignore[no-untyped-call]
        return await self._to_end(answer)

    async def close(self) -> None:
        """Close the connection; raises nothing."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await client.aclose()

    async def _connected(self) -> "Redis":
        if self._client is None:
            self._client = _client(self._access)
        return self._client

    async def _to_end(self, answer: Awaitable[Any]) -> Any:  # noqa: ANN401 - see `ask`
        """Return an answer; a cancellation ends the wait for it, and nothing else.

        The client may swallow a cancellation that comes while it reads.
        """
        reading = asyncio.ensure_future(self._translated(answer))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def _translated(self, answer: Awaitable[Any]) -> Any:  # noqa: ANN401 - see `ask`
        from redis import exceptions as errors  # noqa: PLC0415 - an extra

        try:
            async with asyncio.timeout(2 * STEP_SECONDS):
                return await answer
        except CohortSyncError:
            raise
        except (errors.AuthenticationError, errors.NoPermissionError) as error:
            raise self._refused(error, _HINT_LOGIN) from None
        except (errors.ConnectionError, errors.TimeoutError, TimeoutError, OSError) as error:
            if isinstance(error.__cause__ or error.__context__, ssl.SSLCertVerificationError):
                hint = "set `limits.shared_ca_file` to the certificate that signed the server's"
                raise self._refused(error.__cause__ or error, hint) from None
            raise UnreachableError(
                f"{self.label} cannot be reached: {_clause(error)}", hint=_HINT_UNREACHABLE
            ) from None
        except errors.ResponseError as error:
            if str(error).startswith(_LATER):
                raise UnreachableError(
                    f"{self.label} cannot serve now: {_clause(error)}", hint=_HINT_UNREACHABLE
                ) from None
            raise self._refused(error, _HINT_SERVER) from None

    def _refused(self, error: BaseException, hint: str) -> ServerRefusedError:
        return ServerRefusedError(f"{self.label} refuses this process: {_clause(error)}", hint=hint)


_LATER = ("LOADING", "MASTERDOWN", "READONLY", "BUSY", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN")
"""How the errors begin of a server that starts, or is not the primary one any more."""
_HINT_UNREACHABLE = "check that the server of `limits.shared` runs, then run the same command again"
_HINT_LOGIN = (
    "check the user in `limits.shared`, the password (`limits.shared_password_file` or its "
    "variable), and the user's rights; docs/hosts.md lists what is needed"
)
_HINT_SERVER = "it needs Redis 6 or Valkey 7, or later; docs/hosts.md describes the server"
_LONGEST_CLAUSE = 200


def _clause(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return said[:_LONGEST_CLAUSE].rstrip(".") or type(error).__name__


@cache
def _source(script: str) -> str:
    return files(__package__).joinpath(f"{script}.lua").read_text(encoding="utf-8")


def _client(access: ServerAccess) -> "Redis":
    try:
        from redis.asyncio import Redis, SSLConnection, UnixDomainSocketConnection  # noqa: PLC0415
        from redis.asyncio.connection import Connection, ConnectionPool  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.credentials import CredentialProvider  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "`limits.shared` needs the package redis", hint='pip install "cohortsync[redis]"'
        ) from None

    address = access.address
    if access.ca_file is not None and not Path(access.ca_file).is_file():
        raise ConfigError(
            f"{access.ca_file} is no file", hint="correct `limits.shared_ca_file`, a PEM file"
        )

    class Login(CredentialProvider):
        """Reads user and password for each connection."""

        def get_credentials(self) -> tuple[str] | tuple[str, str]:
            password = access.password()
            if password is None:
                return (address.user, "") if address.user else ("",)
            return (address.user, password) if address.user else (password,)

    options: dict[str, Any] = {
        "socket_timeout": STEP_SECONDS,
        "socket_connect_timeout": STEP_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "cohortsync",
    }
    if address.user is not None or access.password() is not None:
        options["credential_provider"] = Login()
    if address.scheme == "unix":
        kind: type[Any] = UnixDomainSocketConnection
        options["path"] = address.host
    else:
        kind = Connection
        options |= {"host": address.host, "port": address.port, "db": address.database}
    if address.scheme == "rediss":
        kind = SSLConnection
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        options["ssl_ca_certs"] = access.ca_file
    return Redis.from_pool(ConnectionPool(connection_class=kind, **options))
