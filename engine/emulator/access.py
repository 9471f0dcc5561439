"""Authenticates requests: Basic authentication, and the MOE-APPKEY header that must match it."""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDictProxy

from engine.emulator.answers import (
    APP_KEY_MISMATCH,
    BLOCKED,
    KEY_MISMATCH,
    NO_AUTHORIZATION,
    Refusal,
)

APP_KEY: Final = "MOE-APPKEY"
SINGLE_HEADERS: Final = ("Authorization", APP_KEY, "Content-Type")
"""Headers that a request has once; a second one is a breach even if it is equal."""


def identify(
    headers: CIMultiDictProxy[str], workspaces: Mapping[str, str], blocked: frozenset[str]
) -> str | Refusal:
    """Return the workspace of a request, or why it is refused."""
    authorization = headers.get("Authorization")
    if authorization is None:
        return NO_AUTHORIZATION
    workspace, key = _read_basic(authorization)
    if workspaces.get(workspace) != key:
        return KEY_MISMATCH
    if any(app_key != workspace for app_key in headers.getall(APP_KEY, [""])):
        return APP_KEY_MISMATCH
    if workspace in blocked:
        return BLOCKED
    return workspace


def _read_basic(authorization: str) -> tuple[str, str]:
    """Split `Basic <base64 of user:password>`; the user is empty for anything else."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    user, _, password = decoded.partition(":")
    return user, password
