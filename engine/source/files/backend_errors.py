"""Translates a backend's errors into `SourceError`: what happened, and whether to retry.

A backend's own message is never shown: it may quote a credential.
"""

import errno
import os
import socket
import ssl
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus

from engine.errors import MissingExportError, SourceError, SourceUnavailableError
from engine.source.temporary import copy_failed, is_about_copy

_DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, tarfile.ReadError, zlib.error)
_ARCHIVES = frozenset({"zip", "tar", "libarchive"})
_TEMPORARY_STATUS = frozenset({408, 421, 425, 429, 499})
_FINAL_STATUS = frozenset({501, 505, 506, 510, 511})
_FINAL_FROM = 500
_GONE = frozenset({404, 410})
_DENIED = frozenset({401, 403, 407})
_CHANGED = 412
_REFUSING_SCHEMES = frozenset(
    {"http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "file"}
)
"""Schemes of services that should always run: a refused connection is temporary."""
_UNREACHABLE = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ETIMEDOUT}
)
_BROKEN = frozenset(
    {
        *("ServerDisconnectedError", "ClientPayloadError", "ClientOSError", "IncompleteRead"),
        *("ResponseStreamingError", "ConnectionClosedError", "IncompleteReadError", "SSHException"),
        *("ContentLengthError", "RemoteDisconnected", "ServiceResponseError", "PrematureEndError"),
    }
)
"""Names of exceptions for a broken connection; names avoid the import of the backends."""
_TIMEOUTS = frozenset(
    {"ReadTimeoutError", "ConnectTimeoutError", "ServiceRequestTimeoutError", "FSTimeoutError"}
)
_NO_CREDENTIALS = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
        *("DefaultCredentialsError", "RefreshError", "ClientAuthenticationError"),
        *("TokenRetrievalError", "ProfileNotFound", "AuthenticationException"),
    }
)
_UNREACHED = frozenset(
    {"EndpointConnectionError", "ClientConnectorDNSError", "ClientConnectorError"}
)
"""Names of exceptions for a failed connection attempt; a known cause is more precise."""
_INVALID_URLS = frozenset({"InvalidURL", "InvalidUrlClientError", "NonHttpUrlClientError"})
_FTP_REPLIES = frozenset({"error_perm", "error_temp", "error_reply", "error_proto"})
_FTP_STATUS = {530: 401, 550: 404}
"""HTTP status for the FTP replies "not logged in" and "no such file"."""
_AGAIN = "run the same command again later"
_CHECK_ADDRESS = "check the address"
_CREDENTIALS = {
    "http": "a link may have expired; else a user and a password are lacking",
    "s3": "credentials come from AWS_ACCESS_KEY_ID, AWS_PROFILE or the machine's role",
    "gs": "credentials come from GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth` as set up",
    "abfs": "credentials come from AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_SAME_SERVICE = {"https": "http", "s3a": "s3", "gcs": "gs", "abfss": "abfs", "az": "abfs"}


class PrematureEndError(Exception):
    """A backend reports the end of a file before its size is reached."""


def source_error(name: str, error: BaseException, schemes: Sequence[str]) -> SourceError:
    """Return the error for a file that cannot be opened or read.

    `schemes` are the schemes of its URL's links. The error is `SourceUnavailableError` (exit status
    75) if the cause is temporary: timeouts, broken and refused connections, 5xx, 408, 429, no room
    for a temporary copy. It is `MissingExportError` if there is no such file, otherwise a plain
    `SourceError`.
    """
    if isinstance(error, SourceError):
        return error
    scheme = schemes[-1]
    causes = list(_causes(error))
    for cause in causes:
        if found := _by_kind(name, cause, scheme):
            return found
    if any(type(cause).__name__ in _UNREACHED for cause in causes):
        return _unavailable(name, "the server cannot be reached")
    is_archive = schemes[0] in _ARCHIVES
    missing = (FileNotFoundError, KeyError) if is_archive else FileNotFoundError
    if any(isinstance(cause, missing) for cause in causes):
        hint = f"{_CHECK_ADDRESS}: names in it are case-sensitive"
        if is_archive:
            hint = "check the archive's own address, and the names in it"
        return MissingExportError(f"{name}: no such file", hint=hint)
    if any(isinstance(cause, PermissionError) for cause in causes):
        return _denied(name, "permission denied", scheme)
    number = next((c.errno for c in causes if isinstance(c, OSError) and c.errno), None)
    reason = os.strerror(number) if number else f"the backend of {scheme}:// cannot open it"
    java = "hdfs:// needs Java and libhdfs: JAVA_HOME, HADOOP_HOME and CLASSPATH"
    hint = java if scheme == "hdfs" else _CHECK_ADDRESS
    return SourceError(f"{name}: cannot be read ({reason})", hint=hint)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the outermost first."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        reason = cause.__cause__
        if reason is None and not cause.__suppress_context__:
            reason = cause.__context__
        kwargs = getattr(cause, "kwargs", None)
        within = kwargs.get("error") if isinstance(kwargs, dict) else None
        waiting += [getattr(cause, "os_error", None), within, reason]


def _by_kind(name: str, error: BaseException, scheme: str) -> SourceError | None:
    """Translate one error of the chain; None if it does not show a precise cause."""
    status = _status_of(error)
    if status is not None:
        return _by_status(name, status, scheme)
    if isinstance(error, OSError) and is_about_copy(error):
        return copy_failed(error)
    if type(error).__name__ in _FTP_REPLIES:
        return _by_ftp_reply(name, str(error)[:3])
    return _by_content(name, error, scheme) or _by_connection(name, error, scheme)


def _by_ftp_reply(name: str, code: str) -> SourceError:
    """Translate a reply of an FTP server: 4xx is temporary, 5xx is not."""
    number = int(code) if code.isdecimal() else 0
    status = _FTP_STATUS.get(number, 503 if 0 < number < _FINAL_FROM else 400)
    return _by_answer(name, f"the server answered {number}", status, "ftp")


def _by_status(name: str, status: int, scheme: str) -> SourceError:
    answer = f"the server answered {status}"
    with suppress(ValueError):  # an unregistered status
        answer += f" ({HTTPStatus(status).phrase})"
    return _by_answer(name, answer, status, scheme)


def _by_answer(name: str, answer: str, status: int, scheme: str) -> SourceError:
    if status in _GONE:
        return MissingExportError(f"{name}: no such file", hint=f"{answer}: {_CHECK_ADDRESS}")
    if status in _DENIED:
        return _denied(name, answer, scheme)
    if status == _CHANGED:
        return SourceError(f"{name}: changed while it was read", hint=_AGAIN)
    if status in _TEMPORARY_STATUS or (status >= _FINAL_FROM and status not in _FINAL_STATUS):
        return _unavailable(name, answer)
    return SourceError(f"{name}: cannot be read ({answer})", hint=_CHECK_ADDRESS)


def _by_connection(name: str, error: BaseException, scheme: str) -> SourceError | None:
    kind = type(error).__name__
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:
            return _unavailable(name, "its host's name cannot be resolved at the moment")
        return SourceError(f"{name}: its host's name is not known", hint=_CHECK_ADDRESS)
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "SSL_CERT_FILE names a file of certificates to trust"
        return SourceError(f"{name}: the server's certificate is not trusted", hint=hint)
    if isinstance(error, ssl.SSLError):
        return SourceError(f"{name}: no TLS with the server", hint="check scheme and port")
    if isinstance(error, ConnectionRefusedError):
        if scheme in _REFUSING_SCHEMES:
            return _unavailable(name, "the connection was refused")
        return SourceError(f"{name}: the connection was refused", hint="check host and port")
    if isinstance(error, TimeoutError) or kind in _TIMEOUTS:
        return _unavailable(name, "the server did not answer in time")
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return _unavailable(name, "the server cannot be reached")
    if isinstance(error, (ConnectionError, EOFError)) or kind in _BROKEN:
        return _unavailable(name, "the connection broke off")
    return None


def _by_content(name: str, error: BaseException, scheme: str) -> SourceError | None:
    kind = type(error).__name__
    is_cut = isinstance(error, EOFError) and scheme == "file"
    if is_cut or isinstance(error, _DAMAGED) or kind == "LZMAError":
        hint = "fetch or make it again"
        return SourceError(f"{name}: the archive is damaged, or it is not one", hint=hint)
    if isinstance(error, RuntimeError) and "encrypted" in str(error):
        return SourceError(f"{name}: the archive is encrypted", hint="decrypt it first")
    if kind in _INVALID_URLS:
        return SourceError(f"{name}: is not a valid URL", hint="check host and port")
    if kind == "TooManyRedirects":
        return SourceError(f"{name}: the server redirects without an end", hint=_CHECK_ADDRESS)
    if kind in _NO_CREDENTIALS:
        return _denied(name, "no credentials for it were found", scheme)
    if kind == "FileExpired":
        return _by_status(name, _CHANGED, scheme)
    return None


def _status_of(error: BaseException) -> int | None:
    """Return the HTTP status or FTP reply code of a backend's error; None if it has none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        metadata = response.get("ResponseMetadata")
        return metadata.get("HTTPStatusCode") if isinstance(metadata, dict) else None
    sources = [(error, key) for key in ("status", "status_code", "code")]
    for holder, key in (*sources, (response, "status_code")):
        status = getattr(holder, key, None)
        if isinstance(status, int) and not isinstance(status, bool) and 300 <= status < 600:  # noqa: PLR2004 - statuses of answers
            return status
    return None


def _unavailable(name: str, reason: str) -> SourceUnavailableError:
    return SourceUnavailableError(f"{name}: cannot be read now: {reason}", hint=_AGAIN)


def _denied(name: str, reason: str, scheme: str) -> SourceError:
    hint = _CREDENTIALS.get(
        _SAME_SERVICE.get(scheme, scheme), "check user and password, and who may read it"
    )
    return SourceError(f"{name}: cannot be read: {reason}", hint=hint)
