"""What the API's vendor needs to look into a run: request ids by error, times, counts, versions."""

import platform
import re
import ssl
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine import __version__
from engine.ledger.run_records import AttemptRecord
from engine.report.accounts import SCHEMA_VERSION, Accounts, timestamp
from engine.report.history import open_run

Settings = Mapping[str, Mapping[str, Any]]
"""Tables of keys and values."""

MOST_REQUEST_IDS = 20
"""The request ids that are listed of each kind of answer: the first and the last ones."""
_PACKAGES = ("aiohttp", "aiolimiter", "numpy", "orjson", "pyarrow", "uvloop")
_IDENTIFYING = re.compile(r"\S*[\d@]\S*")
"""A word that may be a uid; the names of error types and fields have neither digit nor `@`."""
_MASK = "***"


@dataclass(frozen=True, slots=True)
class AnswerGroup:
    """The requests of a run that had the same outcome for the same reason."""

    outcome: str
    """`none` if the process died before it recorded one."""
    http_status: int | None
    """None without a response."""
    reason: str | None
    """In the API's words without its message, which may quote a uid; or in ours."""
    requests: int
    uids: int
    """The sum over the requests: a uid that was sent again is counted again."""
    first_sent_at: str | None
    """ISO 8601, in UTC; None if no request of the group left."""
    last_sent_at: str | None
    request_ids: Sequence[str]
    """The API's, by batch: at most `MOST_REQUEST_IDS`, the first ones and the last ones."""


@dataclass(frozen=True, slots=True)
class SupportReport:
    """One run for the vendor's support; holds no uid, no credential and no file name."""

    accounts: Accounts
    answers: Sequence[AnswerGroup]
    """The most frequent first; those that were accepted last."""
    versions: Mapping[str, str]
    settings: Settings | None
    """The configuration by tables, texts masked; None if it can't be read, or no longer has the
    run's workspace."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `support`."""
        accounts = self.accounts.to_dict()
        # Both may name files, and the notes are for the user.
        for key in ("reason", "notes"):
            accounts.pop(key, None)
        return {
            **accounts,
            "exit_status": self.accounts.exit_status,
            "answers": [asdict(each) for each in self.answers],
            "versions": dict(self.versions),
            "settings": self.settings,
            "schema_version": SCHEMA_VERSION,
        }


def support_report(
    state: Path, run: str, settings_of: Callable[[str], Settings | None]
) -> SupportReport:
    """Return the report on a run; `run` is as in `run_names`. Raises as `open_run` does.

    `settings_of` returns the masked settings of the workspace with an id.
    """
    with open_run(state, run) as report:
        accounts = report.accounts()
        answers = answer_groups(report.attempt_records(), set(report.rejected_uids()))
        return SupportReport(accounts, answers, _versions(), settings_of(accounts.workspace))


@dataclass(slots=True)
class _Group:
    """Counts one group of requests; its size does not depend on their number."""

    requests: int = 0
    uids: int = 0
    first_utc_ns: int | None = None
    last_utc_ns: int | None = None
    first_ids: list[str] = field(default_factory=list)
    last_ids: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_REQUEST_IDS // 2))

    def add(self, attempt: AttemptRecord) -> None:
        self.requests += 1
        self.uids += attempt.uid_count
        if (sent := attempt.sent_utc_ns) is not None:
            self.first_utc_ns = min(sent, self.first_utc_ns or sent)
            self.last_utc_ns = max(sent, self.last_utc_ns or sent)
        if attempt.request_id is not None:
            has_room = len(self.first_ids) < MOST_REQUEST_IDS - MOST_REQUEST_IDS // 2
            (self.first_ids if has_room else self.last_ids).append(attempt.request_id)

    def times(self) -> tuple[str | None, str | None]:
        """Return the times of the first request and of the last one."""
        if self.first_utc_ns is None or self.last_utc_ns is None:
            return None, None
        return timestamp(self.first_utc_ns), timestamp(self.last_utc_ns)


def answer_groups(attempts: Iterable[AttemptRecord], uids: Collection[str]) -> list[AnswerGroup]:
    """Return attempts by outcome and reason, the most frequent first, the accepted ones last.

    `uids` are the rejected ones, which the reasons are not to hold.
    """
    groups: defaultdict[tuple[str, int | None, str | None], _Group] = defaultdict(_Group)
    for each in attempts:
        if each.attempt is not None:
            groups[each.outcome or "none", each.http_status, each.reason].add(each)
    found = [
        AnswerGroup(
            outcome,
            status,
            without_uids(reason, uids) if reason and status else reason,
            group.requests,
            group.uids,
            *group.times(),
            request_ids=[*group.first_ids, *group.last_ids],
        )
        for (outcome, status, reason), group in groups.items()
    ]
    return sorted(found, key=lambda each: (each.outcome == "accepted", -each.requests))


def without_uids(reason: str, uids: Iterable[str]) -> str:
    """Return the API's words with every rejected uid masked, and what else may be a uid."""
    status, colon, words = reason.partition(":")
    for uid in sorted(uids, key=len, reverse=True):
        words = words.replace(uid, _MASK)
    return status + colon + _IDENTIFYING.sub(_MASK, words)


def _versions() -> dict[str, str]:
    found = {
        "cohortsync": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "openssl": ssl.OPENSSL_VERSION,
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
