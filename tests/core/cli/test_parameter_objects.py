"""Options that commands share are declared once, as the fields of parameter objects."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from engine.cli.options import flat
from engine.errors import UsageError


@dataclass(frozen=True)
class Place:
    city: Annotated[str, typer.Option(help="Where it is.")]
    street: Annotated[str | None, typer.Option(help="In which street.")] = None


@flat
def visit(
    *,
    name: Annotated[str, typer.Argument(help="Who it is.")],
    place: Place,
    times: Annotated[int, typer.Option(help="How often.")] = 1,
) -> None:
    """Visit somebody."""
    print(name, place, times)  # noqa: T201 - what the test looks at


app = typer.Typer()
app.command()(visit)


def test_each_field_is_an_option_of_the_command() -> None:
    result = CliRunner().invoke(app, ["Ada", "--city", "London", "--times", "2"])
    assert result.stdout == "Ada Place(city='London', street=None) 2\n"
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    assert "Visit somebody." in help_text
    assert all(words in help_text for words in ("--city", "--street", "In which street."))


def test_a_field_without_a_default_is_required() -> None:
    assert CliRunner().invoke(app, ["Ada"]).exit_code == 2


def test_the_command_keeps_its_name_and_its_errors() -> None:
    @flat
    def refuse(*, place: Place) -> None:
        raise UsageError(f"nobody lives in {place.city}")

    assert refuse.__name__ == "refuse"
    with pytest.raises(UsageError, match="London"):
        refuse(city="London", street=None)
