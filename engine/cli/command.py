"""Commands whose help is in groups, with examples, and without what says nothing."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

from engine.cli.examples import EXAMPLES

_PANELS = {
    "Cohort": ("--cohort", "--cohort-id", "--cohort-name", "--cohort-description"),
    "Export": (
        *("--column", "--format", "--header", "--strip"),
        *("--exclude", "--exclude-column", "--on-changed"),
    ),
    "Guards": ("--allow", "--reason", "--assume-empty", "--trust"),
    "Configuration": ("--config", "--state", "--workspace", "--endpoint"),
    "Output": ("--json", "--csv", "--quiet", "--verbose", "--log-format", "--help"),
}
_PANEL_OF = {name: panel for panel, names in _PANELS.items() for name in names}
COMMAND_PANELS = ("Every night", "One cohort", "Look", "State", "Set up")
"""The panels of commands, in the order in which help shows them."""
_ORDER = {panel: place for place, panel in enumerate(COMMAND_PANELS)}
CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}


class Command(TyperCommand):
    """A command whose help groups its options and ends with examples."""

    def __init__(self, name: str | None, **settings: Any) -> None:  # noqa: ANN401 - typer's, which differ by version
        settings["help"] = unwrapped(settings.get("help"))
        super().__init__(name, **settings)

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - typer's
        """Return the parameters, each in its panel, without types that say nothing."""
        own = self.name not in _SELF_EXPLAINED
        return _described(ctx, super().get_params(ctx), has_panels=own)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - typer's
        """Write the help, with the examples of the command after it."""
        path = ctx.command_path.partition(" ")[2]
        self.epilog = _examples(path)
        super().format_help(ctx, formatter)


_SELF_EXPLAINED = {"emulator"}
"""Commands whose options have panels of their own."""


class Group(TyperGroup):
    """A command group whose help is like that of its commands."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - typer's, which differ by version
        settings["help"] = unwrapped(settings.get("help"))
        super().__init__(**settings)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer's
        """Return the names of the commands; help shows their panels in this order."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _place_of(self.commands[name]))

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - typer's
        """Return the parameters, without types that say nothing."""
        return _described(ctx, super().get_params(ctx), has_panels=False)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - typer's
        """Write the help, with the examples of the group after it."""
        self.epilog = _examples(ctx.command_path.partition(" ")[2])
        super().format_help(ctx, formatter)


def _place_of(command: Any) -> int:  # noqa: ANN401 - typer's
    return _ORDER.get(command.rich_help_panel, 0)


def unwrapped(text: str | None) -> str | None:
    """Return a docstring with each paragraph in one line, which a terminal breaks at its width."""
    if text is None:
        return None
    return "\n\n".join(" ".join(each.split()) for each in text.split("\n\n"))


def _examples(path: str) -> str | None:
    examples = EXAMPLES.get(path)
    return "\n".join(["Examples:", *(_prompted(each) for each in examples)]) if examples else None


def _prompted(line: str) -> str:
    return line if line.startswith(" ") else f"$ {line}"


_PLACEHOLDERS = {"int": "N", "float": "NUMBER", "str": "TEXT", "Path": "FILE"}


def _describe_value(option: Any, shown_type: str) -> None:  # noqa: ANN401 - typer's
    """Set what stands for the value of an option; a choice that is too wide goes into its help."""
    name = shown_type.strip("<>").removeprefix("list[").removesuffix("]").removesuffix(" range")
    option.metavar = _PLACEHOLDERS.get(name) or f"<{name}>"
    if len(option.metavar) > _WIDEST_CHOICE:
        option.metavar = max(option.opts, key=len).removeprefix("--").upper()
        option.help = f"{option.help} One of {', '.join(name.split('|'))}."


_WIDEST_CHOICE = 16
"""Columns of a choice that fits beside its option; rich breaks a wider one within its words."""
_TYPERS_OWN = {"help", "install_completion", "show_completion"}


def _described(ctx: Any, parameters: Sequence[Any], *, has_panels: bool) -> list[Any]:  # noqa: ANN401 - typer's
    for each in parameters:
        if getattr(each, "is_flag", False):
            each.metavar = ""
            if each.name in _TYPERS_OWN:  # Without a default, typer loads pydantic to read them.
                each.default = False
        if isinstance(each, TyperArgument):
            _describe_argument(each)
        elif each.metavar is None:
            _describe_value(each, each.display_type_rich(ctx))
        # A bound of a billion only keeps numbers within what can be counted.
        each._get_number_range_help_str = lambda: None  # noqa: SLF001 - typer has no setting for it
        name = max(each.opts, key=len)
        if has_panels and each.param_type_name == "option":
            each.rich_help_panel = each.rich_help_panel or _PANEL_OF.get(name)
    return list(parameters)


_ANY_NUMBER = -1


def _describe_argument(argument: Any) -> None:  # noqa: ANN401 - typer's
    """Let help show an argument by its name alone: its type is text, or said in its help."""
    name = argument.metavar or argument.name.upper()
    if not argument.required and not name.startswith("["):
        name = f"[{name}]"
    if argument.nargs == _ANY_NUMBER and not name.endswith("..."):
        name = f"{name}..."
    argument.metavar = name.strip("[]") if argument.metavar is None else name
    argument.get_usage_pieces = lambda _: [name]
    argument.display_type_rich = lambda **_: None
