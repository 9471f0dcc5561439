"""Numbers on the command line have bounds; beyond them it is one clear line and exit status 2."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints
from unittest.mock import patch

import pytest
import typer
from typer.models import OptionInfo

from engine.cli.application import app, main
from engine.errors import UsageError
from records import records

EXTREMES = ("-1", "9223372036854775807", "1" + "0" * 400, "1e400", "-1e400", "nan", "inf", "", "x")


class Option(NamedTuple):
    """An option that takes a number, and the command that has it."""

    command: str
    flag: str
    annotation: Any
    info: OptionInfo


def number_options() -> Iterator[Option]:
    """Yield the options of all commands that take a number."""
    commands = list(app.registered_commands)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands += group.typer_instance.registered_commands
    for command in commands:
        assert command.callback is not None
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            if get_origin(hint) is not Annotated:
                continue
            kind, info = get_args(hint)
            kinds = {kind, *get_args(kind)}
            if isinstance(info, OptionInfo) and kinds & {int, float}:
                flags = [text for text in (info.default, *(info.param_decls or ())) if text != ...]
                flag = flags[0] if flags else f"--{name.replace('_', '-')}"
                yield Option(command.callback.__name__, str(flag), hint, info)


OPTIONS = {f"{each.command} {each.flag}": each for each in number_options()}
BOUNDED = [name for name, each in OPTIONS.items() if each.command != "emulator"]


def test_the_walk_finds_the_numbers() -> None:
    assert {"push --wait", "apply --first", "rollback --to", "mirror --trust"} < set(BOUNDED)
    assert {"demo --uids", "export --generation", "emulator --port"} < set(OPTIONS)


@pytest.mark.parametrize("name", BOUNDED)
def test_a_number_beyond_its_bounds_is_refused(name: str) -> None:
    option = OPTIONS[name]
    least, most = option.info.min, option.info.max
    assert least is not None
    assert most is not None
    for text in (*EXTREMES, str(least - 1), str(most + 1)):
        with pytest.raises((UsageError, typer.BadParameter)):
            _parsed(option, text)
    for bound in (least, most):
        assert _parsed(option, str(bound)) == bound


def _parsed(option: Option, text: str) -> Any:  # noqa: ANN401 - what the option takes
    one = typer.Typer()
    found = []

    def command(number) -> None:
        found.append(number)

    command.__annotations__ = {"number": option.annotation, "return": None}
    one.command()(command)
    is_named = isinstance(option.info.default, str) or option.info.param_decls
    one([f"{option.flag if is_named else '--number'}={text}"], standalone_mode=False)
    return found[0]


@pytest.mark.parametrize("text", EXTREMES)
@pytest.mark.parametrize(
    "option", [option.flag for option in OPTIONS.values() if option.command == "emulator"]
)
def test_an_emulator_takes_no_number_that_it_cannot_use(
    option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["cohortsync", "emulator", f"{option}={text}"]
    with (
        patch.object(sys, "argv", command),
        patch("engine.emulator.serve") as serve,
        pytest.raises(SystemExit) as ended,
    ):
        main()
    output = capsys.readouterr().err
    if ended.value.code in {0, None}:
        assert serve.called
        assert option == "--seed"
        return
    assert ended.value.code == 2
    [said] = records(output)
    assert (said["event"], said["exit_status"]) == ("error", "2")
