"""Reads where hosts share a ceiling: the keys `shared…` and `weight` of the tables `limits`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from engine.config.config_file import ConfigFile
from engine.config.credentials import Credentials
from engine.config.variables import Keys
from engine.coordination.address import Address
from engine.coordination.coordination import SharedLimits
from engine.coordination.server import ServerAccess
from engine.coordination.settings import SharedSettings
from engine.model.secret import Secret

PASSWORD_VARIABLE = "COHORTSYNC_SHARED_PASSWORD"  # noqa: S105 - the name of a variable
SYSTEMD_NAME = "cohortsync_shared_password"
_KEY = "shared_password"


@dataclass(frozen=True, slots=True)
class _Password:
    """Reads the password when it is needed, since it may be replaced."""

    in_url: str | None
    credentials: Credentials[Secret]

    def __call__(self) -> str | None:
        """Return the password; None if none is set. Raises `ConfigError`."""
        found = self.credentials.read(os.environ)
        return self.in_url if found is None else found.reveal()

    def __repr__(self) -> str:
        return "_Password(***)"


def read_shared(
    file: ConfigFile, at: Keys, settings: SharedSettings, environ: Mapping[str, str]
) -> SharedLimits | None:
    """Return the server that `settings`, of the table `at`, name; None without one.

    A URL with a password that is not from a variable, or that anyone on the way could read, is a
    problem.
    """
    credentials = _credentials(file, at, settings)
    ca_file = file.path_in((*at, "shared_ca_file"), settings.shared_ca_file)
    if settings.shared is None:
        return None
    place = (*at, "shared")
    parsed = file.problems.made(file.tables.place(place), Address.parse, settings.shared)
    if parsed is None:
        return None
    address, password = parsed
    if password is not None and not file.tables.variables(place):
        file.tables.refuse(
            place,
            "should not hold a password, in a file that is copied, shared and versioned: name a "
            f"file by `shared_password_file`, or set `{PASSWORD_VARIABLE}`",
        )
        return None
    if (password or credentials.is_set(environ)) and not (
        address.is_private or settings.shared_plain
    ):
        file.tables.refuse(
            place,
            "should begin with rediss://: over redis://, anyone on the way could read the "
            "password; `shared_plain = true` allows it on a private network",
        )
        return None
    certificates = None if ca_file is None else str(ca_file)
    access = ServerAccess(address, _Password(password, credentials), certificates)
    return SharedLimits(access, settings)


def _credentials(file: ConfigFile, at: Keys, settings: SharedSettings) -> Credentials[Secret]:
    command = settings.shared_password_command or ()
    has_variables = file.tables.variables((*at, "shared_password_command"))
    return Credentials(
        kind=Secret,
        key=_KEY,
        label=file.tables.label,
        table=".".join(at),
        variable=PASSWORD_VARIABLE,
        systemd_name=SYSTEMD_NAME,
        folder=file.folder,
        file=file.path_in((*at, "shared_password_file"), settings.shared_password_file),
        command=command,
        secrets=command[1:] if has_variables else (),
    )
