"""Masks credentials in text from outside before the text is stored."""

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Self
from urllib.parse import quote

MASK = "***"


class Secrets:
    """Known credentials, and the forms in which a server may repeat them.

    It is not a dataclass, so that `repr` and `asdict` do not show them.
    """

    __slots__ = ("_pattern",)

    def __init__(self, forms: Iterable[str] = ()) -> None:
        # Longest first, because one form may be part of another.
        found = sorted({form for form in forms if form}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, found)), re.IGNORECASE)
        if not found:
            self._pattern = re.compile(r"(?!)")

    @classmethod
    def of(cls, *pairs: tuple[str, str]) -> Self:
        """Build from (user, password) pairs; the user alone is not a secret."""
        return cls(form for user, password in pairs for form in _forms(user, password))

    def mask(self, text: str) -> str:
        """Return `text` with each credential replaced by `MASK`."""
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
