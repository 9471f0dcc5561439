"""Notifies people of a sync: one message a recipient, once for each change of a cohort's state."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Protocol

from engine.errors import CohortSyncError, ConfigError
from engine.ledger.notice_records import ToldProblem
from engine.notices.apprise_sender import Result, check_urls, require_apprise, send_messages
from engine.notices.messages import Message, message_of
from engine.notices.ports import NoticeStore, OpenLedger
from engine.notices.problems import (
    CohortNews,
    CohortPast,
    NoticedCohort,
    find_overdue,
    find_problems,
    lasting_problems,
)
from engine.notices.secret_texts import read_urls
from engine.notices.settings import NotifySettings
from engine.report.sync_result import CohortResult, SyncResult

EVERYONE = ""
"""The recipient whose URLs are notified of every cohort."""
_WORDS: Mapping[Result, str] = {
    "failed": "was not delivered",
    "invalid": "was not sent: no service takes the URL",
    "timeout": "was not confirmed in time",
}


class Send(Protocol):
    """Sends messages; see `send_messages`."""

    async def __call__(
        self, messages: Sequence[tuple[str, Message]], seconds: float
    ) -> list[Result]:
        """Return how each message ended."""


@dataclass(frozen=True, slots=True)
class Recipients:
    """The URLs of each recipient; `repr` shows none of them."""

    label: str
    """The configuration's file, for messages."""
    settings: NotifySettings = field(repr=False)
    urls: Mapping[str, Sequence[str]] = field(repr=False)
    """By owner; those that are notified of every cohort are `EVERYONE`."""

    @classmethod
    def read(cls, label: str, settings: NotifySettings) -> "Recipients":
        """Read the URLs; raises `ConfigError` if Apprise is missing, or a file can't be read."""
        if settings.is_used:
            require_apprise()
        urls = {
            owner: read_urls(f"{label}: `notify.owners.{owner}`", entries)
            for owner, entries in settings.owners.items()
        }
        if settings.urls:
            urls[EVERYONE] = read_urls(f"{label}: `notify.urls`", settings.urls)
        return cls(label, settings, urls)

    def of(self, cohort: NoticedCohort) -> list[str]:
        """Return who is notified of a cohort."""
        return [each for each in (EVERYONE, cohort.owner) if each is not None and each in self.urls]

    def name(self, recipient: str) -> str:
        """Return the key of a recipient's URLs, for messages."""
        return "notify.urls" if recipient == EVERYONE else f"notify.owners.{recipient}"

    async def check(self) -> None:
        """Raise `ConfigError` with one line for each URL that no service of Apprise takes."""
        urls = [
            (recipient, number, url)
            for recipient, found in self.urls.items()
            for number, url in enumerate(found, start=1)
        ]
        results = await check_urls([url for *_, url in urls], self.settings.timeout_seconds)
        lines = [
            f"{self.label}: `{self.name(recipient)}`: no service takes URL {number}"
            for (recipient, number, _), result in zip(urls, results, strict=True)
            if result == "invalid"
        ]
        if lines:
            hint = "Apprise's documentation lists the services and the forms of their URLs"
            raise ConfigError("\n".join(lines), hint=hint)


class Notifier:
    """Finds out what is new to each recipient, tells them, and records what they were told."""

    def __init__(
        self,
        recipients: Recipients,
        cohorts: Iterable[NoticedCohort],
        open_ledger: OpenLedger,
        zone: tzinfo | None,
        *,
        send: Send = send_messages,
    ) -> None:
        """`cohorts` are all that are configured; times are told in `zone`."""
        self._recipients = recipients
        self._settings = recipients.settings
        self._cohorts = list(cohorts)
        self._open_ledger = open_ledger
        self._zone = zone
        self._send = send

    async def notify(self, result: SyncResult, pasts: Mapping[str, CohortPast]) -> list[str]:
        """Tell each recipient what is new; return a sentence for each failure.

        `pasts`: what is known of each cohort, by its key. A message that no URL of a recipient
        takes is not recorded as told, so the next sync tells it again.
        """
        if not self._recipients.urls:
            return []
        failures: list[str] = []
        async with AsyncExitStack() as opened:
            stores = await self._stores(opened, failures)
            told = await self._told(stores, failures)
            news = self._news(result, pasts, told)
            delivered = await self._deliver(news, failures)
            for recipient in delivered:
                await self._record(recipient, news[recipient], stores, failures)
        return failures

    async def _stores(self, opened: AsyncExitStack, failures: list[str]) -> dict[str, NoticeStore]:
        """Open the ledger of each workspace; without it, everything counts as new."""
        stores = {}
        for name in dict.fromkeys(each.workspace for each in self._cohorts):
            try:
                stores[name] = (await opened.enter_async_context(self._open_ledger(name))).notices
            except CohortSyncError as error:
                failures.append(_unrecorded(name, error))
        return stores

    async def _told(
        self, stores: Mapping[str, NoticeStore], failures: list[str]
    ) -> Mapping[tuple[str, str], set[str]]:
        """Return the problems that were told, by recipient and cohort."""
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for name, partner in {(each.workspace, each.partner) for each in self._cohorts}:
            try:
                records = await stores[name].told(partner) if name in stores else ()
            except CohortSyncError as error:
                failures.append(_unrecorded(name, error))
                continue
            for record in records:
                found[record.recipient, record.cohort].add(record.problem)
        return found

    def _news(
        self,
        result: SyncResult,
        pasts: Mapping[str, CohortPast],
        told: Mapping[tuple[str, str], set[str]],
    ) -> dict[str, list[CohortNews]]:
        """Return what each recipient may be told of, by recipient."""
        results = {each.cohort: each for each in result.cohorts}
        found: dict[str, list[CohortNews]] = defaultdict(list)
        for cohort in self._cohorts:
            past = pasts.get(cohort.key, CohortPast())
            for recipient in self._recipients.of(cohort):
                known = frozenset(told.get((recipient, cohort.key), ()))
                ended = results.get(cohort.key)
                found[recipient].append(
                    self._news_of(cohort, past, known, ended, result.finished_utc_ns)
                )
        return found

    def _news_of(
        self,
        cohort: NoticedCohort,
        past: CohortPast,
        told: frozenset[str],
        result: CohortResult | None,
        now_utc_ns: int,
    ) -> CohortNews:
        settings, zone = self._settings, self._zone
        findings = find_overdue(cohort, past, settings, now_utc_ns, zone)
        lasting = frozenset[str]()
        if result is None:
            lasting = lasting_problems(told)
        else:
            findings = find_problems(result, past, settings, now_utc_ns, zone) + findings
        return CohortNews(cohort, findings, told, lasting, result)

    async def _deliver(
        self, news: Mapping[str, Sequence[CohortNews]], failures: list[str]
    ) -> list[str]:
        """Send each recipient's message; return those who now know, also if nothing is new."""
        messages = {name: message_of(each, self._settings) for name, each in news.items()}
        jobs = [
            (recipient, number, url, message)
            for recipient, message in messages.items()
            if message is not None
            for number, url in enumerate(self._recipients.urls[recipient], start=1)
        ]
        results = await self._send(
            [(url, message) for *_, url, message in jobs], self._settings.timeout_seconds
        )
        delivered = {recipient for recipient, message in messages.items() if message is None}
        for (recipient, number, _, _), result in zip(jobs, results, strict=True):
            if result == "ok":
                delivered.add(recipient)
            else:
                name = self._recipients.name(recipient)
                failures.append(f"the message to URL {number} of `{name}` {_WORDS[result]}")
        return [each for each in messages if each in delivered]

    async def _record(
        self,
        recipient: str,
        news: Sequence[CohortNews],
        stores: Mapping[str, NoticeStore],
        failures: list[str],
    ) -> None:
        """Record the problems that a recipient knows of now."""
        by_partner: dict[tuple[str, str], list[CohortNews]] = defaultdict(list)
        for each in news:
            if each.present != each.told:
                by_partner[each.cohort.workspace, each.cohort.partner].append(each)
        for (name, partner), changed in by_partner.items():
            problems = [
                ToldProblem(each.cohort.key, recipient, problem)
                for each in changed
                for problem in sorted(each.present)
            ]
            keys = [each.cohort.key for each in changed]
            try:
                if name in stores:
                    await stores[name].replace_told(partner, recipient, keys, problems)
            except CohortSyncError as error:
                failures.append(_unrecorded(name, error))


def _unrecorded(workspace: str, error: CohortSyncError) -> str:
    return f"{workspace}: what was notified of cannot be recorded: {error.message}"
