"""Arguments and options that several commands share."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import UsageError

LARGEST_COUNT = 1_000_000_000_000
"""What a number of uids may be on the command line."""
LARGEST_GENERATION = 2_147_483_647
_YEAR_SECONDS = 31_536_000


def refuse_nan(param: typer.CallbackParam, value: float | None) -> float | None:
    """Raise `UsageError` for what is no number, and so within no bounds."""
    if value is not None and math.isnan(value):
        raise UsageError(f"{param.opts[0]} should be a number, not {value}")
    return value


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Configuration file; else COHORTSYNC_CONFIG, else ./config.toml."
    ),
]
EndpointOption = Annotated[
    str | None, typer.Option(help="scheme://host:port, instead of the configured one.")
]
StateOption = Annotated[
    Path | None, typer.Option("--state", help="State folder, instead of the configured one.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text.")
]

WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        min=0,
        max=_YEAR_SECONDS,
        callback=refuse_nan,
        help="Seconds to wait while another process works on it.",
    ),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="GUARD[=BOUND]", help="Lift a guard, to a bound, for this run."
    ),
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Why a guard is lifted; kept in the ledger.")
]


def require_reason(allow: list[str] | None, reason: str | None) -> None:
    """Raise `UsageError` for a guard that is lifted without a reason."""
    if allow and not (reason or "").strip():
        raise UsageError("--allow needs a --reason", hint='--reason "why"; it is kept')


ExportsArgument = Annotated[
    list[str],
    typer.Argument(metavar="EXPORT...", help="Files, globs, folders, URLs, or - for stdin."),
]
CohortIdOption = Annotated[str, typer.Option(help="The cohort's id; made up by you, then kept.")]
CohortNameOption = Annotated[str, typer.Option(help="The name that the dashboard shows.")]
CohortDescriptionOption = Annotated[str | None, typer.Option(help="What the cohort is for.")]
ColumnOption = Annotated[
    str | None,
    typer.Option(help="Where the uids are: a name, or a dotted path; else the only column."),
]
NoHeaderOption = Annotated[
    bool, typer.Option("--no-header", help="The first record of a csv or tsv is data.")
]
StripOption = Annotated[bool, typer.Option("--strip", help="Take white space around uids off.")]


ShadowOption = Annotated[bool, typer.Option("--shadow", help="The snapshots of `mirror --shadow`.")]


class FormatName(StrEnum):
    """What `--format` takes."""

    AUTO = "auto"
    TEXT = "text"
    CSV = "csv"
    TSV = "tsv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


FormatOption = Annotated[
    FormatName, typer.Option("--format", help="By default told by suffix, then by content.")
]
