"""Collects what is wrong or doubtful in a configuration, so that all of it is reported at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from engine.errors import ConfigError

Given = TypeVar("Given")
T = TypeVar("T")

HINT_KEYS = "`cohortsync schema` describes each key and its values"


@dataclass(slots=True)
class Problems:
    """The problems, notes and hint of one configuration."""

    lines: list[str] = field(default_factory=list)
    """One line for each problem; each names the file or variable, and the key."""
    notes: list[str] = field(default_factory=list)
    """One sentence for each doubtful but valid setting."""
    hint: str = HINT_KEYS
    _lacks: list[str] = field(default_factory=list)

    def add(self, line: str, hint: str | None = None) -> None:
        """Add a problem; a hint replaces that of earlier problems."""
        self.lines.append(line)
        self.hint = hint or self.hint

    def lack(self, line: str, hint: str) -> None:
        """Add a problem that follows all others, since a misspelled key may be its cause."""
        self._lacks.append(line)
        self.hint = hint

    def made(
        self,
        place: str,
        make: Callable[[Given], T],
        given: Given | None,
        hint: str | None = None,
    ) -> T | None:
        """Return the result of `make` for a given value; its `ValueError` becomes a problem."""
        try:
            return None if given is None else make(given)
        except ValueError as error:
            self.add(f"{place} {error}", hint)
            return None

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with all problems, if there are any."""
        if found := [*self.lines, *self._lacks]:
            raise ConfigError("\n".join(found), hint=self.hint)

    def winner(self, given: Mapping[str, T | None]) -> T | None:
        """Return the first given value, and note the given values that it overrides."""
        found = {name: value for name, value in given.items() if value is not None}
        if not found:
            return None
        (winner, value), *others = found.items()
        self.notes += [f"{winner} wins over {name}" for name, other in others if other != value]
        return value
