"""The settings of the morning page that each sync writes."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

Hours = Annotated[float, Ge(0.1), Le(8760)]


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """The settings of the report after each sync."""

    html: str | None = None
    """The file that the page is written to; None: no page is written."""
    since_hours: Hours = field(
        default=24.0, metadata={"should_be": "a number of hours from 0.1 to 8,760"}
    )
    """How far back the page looks."""
    with_uids: bool = False
    """Whether the page lists the first rejected uids."""
