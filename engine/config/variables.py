"""Replaces `${NAME}` and `${NAME:-default}` in the texts of a TOML document; `$$` is a dollar."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Keys = tuple[str, ...]
"""The place of a value: the table's name, and so on, to the key.

A table in an array has its number for a key: `("limits", "hours", "[1]", "from")`.
"""

_REFERENCE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_PLACE = re.compile(r"\[[1-9][0-9]*\]")
_UNFINISHED = re.compile(r"\$\$|(?P<open>\$\{)")


def place_in_array(number: int) -> str:
    """Return the key of a table in an array; `number` is from 0, and the key from 1."""
    return f"[{number + 1}]"


def is_place(key: str) -> bool:
    """Return whether a key may be a place in an array."""
    return _PLACE.fullmatch(key) is not None


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


@dataclass(slots=True)
class Substituted:
    """A document after the replacement, and what was replaced where."""

    document: dict[str, Any] = field(default_factory=dict)
    names: dict[Keys, list[str]] = field(default_factory=dict)
    """The variables in each value that has any; their values may be secret."""
    fixed: dict[Keys, str] = field(default_factory=dict)
    """The rest of each such value: what the file itself says."""
    problems: dict[Keys, str] = field(default_factory=dict)
    """For each value that could not be replaced, a clause that says why."""

    def problem_in(self, keys: Keys) -> tuple[Keys, str] | None:
        """Return the first problem of a value, or of one within it, as its place and the clause."""
        found = ((at, clause) for at, clause in self.problems.items() if at[: len(keys)] == keys)
        return next(found, None)


def substitute(document: Mapping[str, Any], environ: Mapping[str, str]) -> Substituted:
    """Replace the variables in every text value, also within lists; keys are left as they are.

    A variable that is set but empty has its default, as in a shell.
    """
    found = Substituted()

    def replaced(value: Any, keys: Keys) -> Any:  # noqa: ANN401 - any TOML value
        match value:
            case dict():
                return {key: replaced(each, (*keys, key)) for key, each in value.items()}
            case list():
                return [
                    replaced(each, (*keys, place_in_array(number)) if _is_table(each) else keys)
                    for number, each in enumerate(value)
                ]
            case str() if "$" in value:
                return _replace(value, keys, environ, found)
            case _:
                return value

    found.document = {key: replaced(value, (key,)) for key, value in document.items()}
    return found


def _replace(text: str, keys: Keys, environ: Mapping[str, str], found: Substituted) -> str:
    fixed = _REFERENCE.sub(lambda match: "$" if match["name"] is None else "", text)

    def value_of(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            return "$"
        found.names.setdefault(keys, []).append(name)
        found.fixed[keys] = fixed
        value = environ.get(name)
        if not value and default is not None:
            return default
        if value is None:
            found.problems[keys] = (
                f"names the variable `{name}`, which is not set; `${{{name}:-…}}` gives a default"
            )
            return ""
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            found.problems[keys] = f"names the variable `{name}`, whose value is not valid UTF-8"
        return value

    rest = _REFERENCE.sub(lambda match: "$$" if match["name"] is None else "", text)
    if any(match["open"] for match in _UNFINISHED.finditer(rest)):
        found.problems[keys] = (
            "holds a `${` that is no `${NAME}` and no `${NAME:-default}`; for a dollar, write `$$`"
        )
        return text
    return _REFERENCE.sub(value_of, text)
