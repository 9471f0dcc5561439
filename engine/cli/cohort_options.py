"""Options that name a cohort."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from engine.errors import UsageError
from engine.model.cohort import Cohort

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyOption = Annotated[
    str | None,
    typer.Option(
        "--cohort",
        metavar="KEY",
        help="A cohort of the configuration: its table says what no option does.",
    ),
]


@dataclass(frozen=True, slots=True)
class CohortOptions:
    """The cohort that a run changes."""

    cohort: KeyOption = None
    cohort_id: Annotated[
        str | None,
        typer.Option(
            "--cohort-id",
            metavar="ID",
            help="The cohort's id, chosen by you; always the same for one cohort. Without "
            "--cohort it is needed, and so is --cohort-name.",
        ),
    ] = None
    cohort_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name that the dashboard shows.")
    ] = None
    cohort_description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the cohort is for.")
    ] = None

    def named(self) -> Cohort | str:
        """Return the cohort, or the key of a configured one.

        Raises `UsageError` for values that the API would refuse, for both or neither.
        """
        given = {
            "--cohort-id": self.cohort_id,
            "--cohort-name": self.cohort_name,
            "--cohort-description": self.cohort_description,
        }
        if self.cohort is not None:
            _refuse_with_key(given)
            return self.cohort
        if self.cohort_id is None and self.cohort_name is None:
            raise UsageError("no cohort is named: needs --cohort, or --cohort-id and --cohort-name")
        if self.cohort_id is None or self.cohort_name is None:
            lacking = "--cohort-id" if self.cohort_id is None else "--cohort-name"
            raise UsageError(f"without --cohort it needs {lacking}, too")
        return Cohort(self.cohort_id, self.cohort_name, self.cohort_description)


@dataclass(frozen=True, slots=True)
class KnownCohortOptions:
    """A cohort that was mirrored or pushed."""

    cohort: KeyOption = None
    cohort_id: Annotated[
        str | None,
        typer.Option(
            "--cohort-id",
            metavar="ID",
            help="The cohort's id, as mirrored or pushed; needed without --cohort.",
        ),
    ] = None

    def named(self, **further: object) -> "KnownCohort":
        """Return it as arguments of `Engine.snapshots` and others.

        Raises `UsageError` for both or neither, and for `further` options by name with a key.
        """
        if self.cohort is not None:
            _refuse_with_key({"--cohort-id": self.cohort_id, **further})
        elif self.cohort_id is None:
            raise UsageError("no cohort is named: needs --cohort or --cohort-id")
        return {"cohort_id": self.cohort_id, "cohort": self.cohort}


class KnownCohort(TypedDict):
    """The arguments that name a cohort by its id or its key."""

    cohort_id: str | None
    cohort: str | None


def _refuse_with_key(given: "Mapping[str, object]") -> None:
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"--cohort and {option} exclude each other",
                hint="--cohort takes a cohort as its table in the configuration has it",
            )
