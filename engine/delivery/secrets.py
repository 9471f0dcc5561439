"""Credentials that may come back in text from outside, masked before any of it is kept."""

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Self
from urllib.parse import quote

MASK = "***"


class Secrets:
    """Known credentials, and the forms in which a server may repeat them.

    It is no dataclass, so that neither `repr` nor `asdict` spells them out.
    """

    __slots__ = ("_pattern",)

    def __init__(self, forms: Iterable[str] = ()) -> None:
        # The longest first: one may be a part of another.
        found = sorted({form for form in forms if form}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, found)), re.IGNORECASE)
        if not found:
            self._pattern = re.compile(r"(?!)")

    @classmethod
    def of(cls, *pairs: tuple[str, str]) -> Self:
        """Take (user, password) pairs; the user by itself is no secret."""
        return cls(form for user, password in pairs for form in _forms(user, password))

    def mask(self, text: str) -> str:
        """Return `text` with each credential replaced."""
        return self._pattern.sub(MASK, text)

    def __repr__(self) -> str:
        return "Secrets(***)"


def _forms(user: str, password: str) -> Iterable[str]:
    if not password:
        return
    for secret in (password, f"{user}:{password}"):
        raw = secret.encode("utf-8", "surrogateescape")
        yield secret
        yield quote(raw, safe="")
        for encoded in (b64encode(raw), urlsafe_b64encode(raw)):
            yield encoded.decode().rstrip("=")
