"""Arguments and options that name the files of a list of uids, and say how to read them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from engine.errors import UsageError
from engine.model.cohort import Cohort

if TYPE_CHECKING:
    from engine import ExportArguments, Reading


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """How to read files."""

    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where the uids are: a column's name (with --no-header its number, from 1), or "
            "the dotted path of a field; else the only column.",
        ),
    ] = None
    format: Annotated[
        Literal["auto", "text", "csv", "tsv", "ndjson", "parquet"] | None,
        typer.Option(help="By default detected by suffix, then by content."),
    ] = None
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first record of a csv or tsv names the columns; by default it does.",
        ),
    ] = None
    strip: Annotated[
        bool | None,
        typer.Option("--strip/--no-strip", help="Remove white space around uids; by default not."),
    ] = None

    def reading(self) -> "Reading":
        """Return the reading options, as arguments of `Engine.push`."""
        return {
            "column": self.column,
            "format": self.format,
            "header": self.header,
            "strip": self.strip,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions(FormatOptions):
    """The files of a list of uids, and how to read them."""

    exports: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPORT...", help="Files, globs, folders, URLs, a table, or - for stdin."
        ),
    ]


@dataclass(frozen=True, slots=True)
class ExportOptions(FormatOptions):
    """The files of an export, which a configured cohort has in its table, and how to read them."""

    exports: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPORT",
            help="Files, globs, folders, URLs, a table, or - for stdin; with --cohort by default "
            "its own.",
        ),
    ] = None

    def names_for(self, cohort: Cohort | str) -> list[str] | None:
        """Return the files; raise `UsageError` if there are none for a cohort without a key."""
        if not self.exports and isinstance(cohort, Cohort):
            raise UsageError(
                "no export is named: needs EXPORT", hint="only a configured cohort has its own"
            )
        return self.exports or None


@dataclass(frozen=True, slots=True)
class FilteredExportOptions(ExportOptions):
    """The files of an export, and the lists of uids that are left out of it."""

    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", metavar="FILE", help="Leave the uids of this list out; repeatable."
        ),
    ] = None
    exclude_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where the uids of --exclude are, as --column."),
    ] = None

    def arguments(self) -> "ExportArguments":
        """Return the options as arguments of `Engine.push`."""
        return {
            **self.reading(),
            "exclude": self.exclude or (),
            "exclude_column": self.exclude_column,
        }
