"""Arguments and options that several commands share."""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LARGEST_COUNT = 1_000_000_000_000
"""What a number of uids may be on the command line."""
LARGEST_GENERATION = 2_147_483_647
_YEAR_SECONDS = 31_536_000


class Command(TyperCommand):
    """A command whose help shows no type beside a switch: it takes no value."""

    def get_params(self, ctx: "Any") -> "list[Any]":  # noqa: ANN401 - typer's, which differ by version
        """Return the parameters, switches without a placeholder."""
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """The same for a command that has commands."""

    def get_params(self, ctx: "Any") -> "list[Any]":  # noqa: ANN401 - typer's, which differ by version
        """Return the parameters, switches without a placeholder."""
        return _without_types(super().get_params(ctx))


def _without_types(parameters: "Sequence[Any]") -> "list[Any]":
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return list(parameters)


def refuse_nan(param: typer.CallbackParam, value: float | None) -> float | None:
    """Raise `UsageError` for what is no number, and so within no bounds."""
    if value is not None and math.isnan(value):
        raise UsageError(f"{param.opts[0]} should be a number, not {value}")
    return value


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration file; else COHORTSYNC_CONFIG, else ./config.toml.",
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="scheme://host:port of the API; else the configured one."),
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="FOLDER", help="State folder, instead of the configured one."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")
]

WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        max=_YEAR_SECONDS,
        callback=refuse_nan,
        help="How long to wait for another process that holds the workspace; with 0 that is exit "
        "status 75 at once.",
    ),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="GUARD[=BOUND]",
        help="Lift a guard, to a bound, for this run; wants a --reason; repeatable.",
    ),
]
ReasonOption = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why --allow lifts a guard; kept in the ledger."),
]


def require_reason(allow: list[str] | None, reason: str | None) -> None:
    """Raise `UsageError` for a guard that is lifted without a reason."""
    if allow and not (reason or "").strip():
        raise UsageError("--allow needs a --reason", hint='--reason "why"; it is kept')


ExportsArgument = Annotated[
    list[str],
    typer.Argument(metavar="EXPORT...", help="Files, globs, folders, URLs, or - for stdin."),
]
CohortIdOption = Annotated[
    str, typer.Option(metavar="ID", help="The cohort's id; made up by you, then kept.")
]
KnownCohortIdOption = Annotated[
    str,
    typer.Option("--cohort-id", metavar="ID", help="The cohort's id, as mirrored or pushed."),
]
CohortNameOption = Annotated[
    str, typer.Option(metavar="NAME", help="The name that the dashboard shows.")
]
CohortDescriptionOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What the cohort is for.")
]
ColumnOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where the uids are: a column's name (with --no-header its number, from 1), or the "
        "dotted path of a field; else the only column.",
    ),
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
