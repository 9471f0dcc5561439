"""Distinguishes URLs of exports from paths, and shows them without credentials.

A URL may be a chain of links in the notation of fsspec: `zip://a.csv::https://host/exports.zip`.
"""

import re
from hashlib import sha256
from urllib.parse import unquote

from engine.errors import UsageError

HTTP = frozenset({"http", "https"})
_SCHEME = r"[a-z][a-z0-9+.-]*"
_URL = re.compile(rf"(?:{_SCHEME}::)*{_SCHEME}://", re.IGNORECASE)
_FILE_URL = re.compile(r"file:(?://([^/]*))?(/.*)?", re.IGNORECASE | re.DOTALL)
_ACCOUNTS = frozenset({"abfs", "abfss", "az", "wasb", "wasbs"})
"""Schemes in which the name before `@` is a container."""
CACHES = frozenset({"simplecache", "filecache", "blockcache", "cached"})
_REDACTED = "REDACTED"

_CREDENTIAL = re.compile(
    r"sig(?!ht|n$)|token|secret|pass(?!port)|pwd|key|auth(?!or)|credential|jwt|hmac|session|^sas$",
    re.IGNORECASE,
)
"""Names of query parameters whose values are credentials."""
_SIGNED = re.compile(
    r"x-(?:amz|goog|ms|oss|obs|cos)-|expires?$|policy$|googleaccessid$|awsaccesskeyid$"
    r"|(?:s[vserpkt]|ss|srt|spr|st|skoid|sktid|sk[evs]|sip|sdd)$",
    re.IGNORECASE,
)
"""Names of other parameters of a signed URL that change with each signature."""
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#/?]+)=([^&;#]*)")


def is_url(export: str) -> bool:
    """Return whether an export is a URL and not a path."""
    return _URL.match(export) is not None


def file_path(export: str) -> str | None:
    """Return the path in a `file:` URL; None for anything else.

    Raises `UsageError` for a URL that names another machine.
    """
    match = _FILE_URL.fullmatch(export)
    if match is None or (match[1] is None and match[2] is None):
        return None
    host, path = match[1] or "", match[2] or "/"
    if unquote(host).lower() not in {"", "localhost"}:
        raise UsageError(
            f"{export}: names the host {host!r}, and only files of this machine can be read so",
            hint=f"file:///ABSOLUTE/PATH has three slashes; a path needs no file://: {host}{path}",
        )
    return unquote(path, errors="surrogateescape")


def links(url: str) -> list[str]:
    """Return the links of a chain, the file's link first, with schemes in lower case."""
    *caches, last = url.split("::")
    return [
        *(_lower_scheme(link if "://" in link else f"{link}://") for link in caches),
        _lower_scheme(last),
    ]


def scheme_of(link: str) -> str:
    """Return the scheme of a link; a link without one is a local path."""
    scheme, found, _ = link.partition("://")
    return scheme if found else "file"


def carrier(url: str) -> int:
    """Return the index of the link with the path: the first one that is not a cache."""
    for number, link in enumerate(links(url)):
        scheme, _, path = link.partition("://")
        if scheme not in CACHES or path:
            return number
    return 0


def path_of(name: str) -> str:
    """Return the path in a URL, for its suffix; a path is returned unchanged."""
    if not is_url(name):
        return name
    link = links(name)[carrier(name)]
    path = link.partition("://")[2]
    return path.partition("?")[0] if scheme_of(link) in HTTP else path


def display_url(url: str) -> str:
    """Return the URL without credentials, for messages and the ledger.

    Users, passwords, tokens and signatures are left out. Over http a digest replaces the rest of
    the query.
    """
    return "::".join(_without_credentials(link, "") for link in links(url))


def redacted(export: str) -> str:
    """Return an export as named by the user, with a mark in place of each credential of a URL.

    `is_redacted` returns whether there was one.
    """
    if not is_url(export):
        return export
    return "::".join(_without_credentials(link, _REDACTED) for link in links(export))


def is_redacted(export: str) -> bool:
    """Return whether `redacted` has replaced a credential by a mark."""
    return is_url(export) and _REDACTED in export


def passwords_in(url: str) -> list[str]:
    """Return the passwords in a URL as it has them: after the user's name, and as parameters."""
    scheme, found, rest = url.partition("://")
    if not found:
        return []
    user, rest = _user_and_rest(scheme, rest)
    parameters = _PARAMETER.finditer(rest)
    given = [each[2] for each in parameters if _CREDENTIAL.search(unquote(each[1]))]
    return [each for each in (user.partition(":")[2], *given) if each]


def _lower_scheme(link: str) -> str:
    scheme, found, rest = link.partition("://")
    return f"{scheme.lower()}://{rest}" if found else link


def _without_credentials(link: str, mark: str) -> str:
    """Return a link without credentials; `mark`, if not empty, replaces each."""
    scheme, found, rest = link.partition("://")
    if not found:
        return link
    user, rest = _user_and_rest(scheme, rest)
    rest = _http_rest(rest, mark) if scheme in HTTP else _PARAMETER.sub(_masked, rest)
    user = f"{mark}@" if user and mark else ""
    return f"{scheme}://{user}{rest}"


def _user_and_rest(scheme: str, rest: str) -> tuple[str, str]:
    """Split off the user and password; a password may hold a slash that should be encoded."""
    authority = re.match(r"[^/?#]*", rest)
    end = authority.end() if authority else 0
    at = rest.rfind("@", 0, end)
    if at < 0 and "@" in rest and re.search(r":\d*[^\d]", rest[:end]):
        at = rest.rfind("@")
    user = rest[: max(at, 0)]
    if at < 0 or (scheme in _ACCOUNTS and ":" not in user):
        return "", rest
    return user, rest[at + 1 :]


def _http_rest(rest: str, mark: str) -> str:
    """Return host and path, and a digest of the query without signatures."""
    rest, _, fragment = rest.partition("#")  # The fragment is never sent.
    address, _, query = rest.partition("?")
    address = _PARAMETER.sub(_masked, address)
    if mark:
        return f"{address}?{mark}" if query or fragment else address
    names = [(part, unquote(part.partition("=")[0])) for part in query.split("&")]
    is_signed = any(_CREDENTIAL.search(name) for _, name in names)
    left = "&".join(
        part
        for part, name in names
        if name.lower() in {"key", "author"}
        or not (_CREDENTIAL.search(name) or (is_signed and _SIGNED.match(name)))
    )
    return f"{address}?{sha256(left.encode()).hexdigest()[:12]}" if left else address


def _masked(match: re.Match[str]) -> str:
    is_credential = _CREDENTIAL.search(unquote(match[1]))
    return f"{match[1]}={_REDACTED}" if is_credential else match[0]
