"""The settings of metrics, notifications and pings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Le

from engine.model.setting_values import (
    SHOULD_BE_TEXT,
    OwnerTexts,
    Text,
    TextList,
)
from engine.report.settings import Rows, Share

EventName = Literal[
    "guard", "failure", "incomplete", "partial", "late", "members", "overdue", "recovery"
]
EVENTS: tuple[EventName, ...] = get_args(EventName)
"""What people can be notified of; `engine.notices.problems` describes each."""

_SECRET_URL = {"should_be": "a URL, or `file:` and the path of a file with it", "is_secret": True}
_SECRET_URLS = {
    "should_be": "a list of Apprise URLs, each of them a text, or `file:` and a path",
    "is_secret": True,
}
_OWNERS = {
    "should_be": "a table of owners, each with one Apprise URL or a list of them",
    "is_secret": True,
}


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """The places that the metrics of a sync go to."""

    textfile: str | None = None
    """The file that they are written to after each sync, for node_exporter; it ends in .prom."""
    push_url: Text | None = field(default=None, metadata=_SECRET_URL)
    """The push gateway that they are sent to after each sync."""
    port: Annotated[int, Ge(1), Le(65_535)] | None = None
    """The port on which they are served while a sync runs."""
    address: Text = field(default="127.0.0.1", metadata=SHOULD_BE_TEXT)
    """The address of that port; by default, only this machine can read it."""


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Who is notified of what."""

    urls: TextList = field(default=(), metadata=_SECRET_URLS)
    """Apprise URLs that are notified of every cohort."""
    owners: OwnerTexts = field(default_factory=dict, metadata=_OWNERS)
    """The Apprise URLs of each owner, who is notified of the cohorts with that `owner`."""
    events: list[EventName] = field(
        default_factory=lambda: list(EVENTS),
        metadata={"should_be": f"a list of some of {', '.join(EVENTS)}"},
    )
    """What is notified of, once for each change."""
    partial_over: Rows | Share | None = field(
        default=None,
        metadata={
            "should_be": "a whole number of rows up to 1,000,000,000,000, or a share from 0.0 to "
            "1.0"
        },
    )
    """The number or share of rejected uids and invalid rows beyond which `partial` is notified of.
    None: when the exit status is 1."""
    members_change: Share = 0.5
    """How far, as a share, the members may be from the median of earlier syncs."""
    members_syncs: Annotated[int, Ge(3), Le(1000)] = 7
    """How many earlier syncs that median is of, if there are as many."""
    timeout_seconds: Annotated[float, Ge(1), Le(600)] = 30.0
    """How long all notifications of a sync may take."""

    @property
    def is_used(self) -> bool:
        """Whether anyone is notified."""
        return bool(self.urls or self.owners)

    def unroutable(self, owners: Mapping[str, str | None]) -> list[str]:
        """Return the cohorts whose owner has no URLs; `owners` is the owner of each cohort.

        With `urls` alone, an owner is only a label.
        """
        if not self.owners:
            return []
        return [key for key, owner in owners.items() if owner and owner not in self.owners]


@dataclass(frozen=True, slots=True)
class PingSettings:
    """The monitor that expects a ping at the start and at the end of each sync."""

    url: Text | None = field(default=None, metadata=_SECRET_URL)
    """`URL/start` is requested at the start, `URL/STATUS` at the end, with the exit status."""
    timeout_seconds: Annotated[float, Ge(1), Le(60)] = 10.0
    """How long a ping may take."""
