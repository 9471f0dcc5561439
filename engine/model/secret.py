"""Text that only `reveal` shows, such as an API key or the password of a database."""

from typing import ClassVar, Self


class Secret:
    """A secret text, and where it was read.

    It is not a dataclass, so that neither `repr` nor `dataclasses.asdict` of its owner shows it.
    """

    noun: ClassVar[str] = "password"
    """What it is, in messages."""

    __slots__ = ("_value", "readable_by_others", "source")

    def __init__(self, value: str, source: str, *, readable_by_others: bool = False) -> None:
        self._value = value
        self.source = source
        """The source of the secret; may be shown."""
        self.readable_by_others = readable_by_others
        """Whether it is from a file that other users of the machine can read by its mode."""

    @classmethod
    def parse(cls, text: str, source: str, *, readable_by_others: bool = False) -> Self:
        """Return a secret from `text`, without its trailing newline.

        Raises `ValueError` with a clause that describes the problem and never repeats `text`.
        """
        value = text.rstrip("\r\n")
        if not value:
            raise ValueError("holds nothing")
        if problem := cls.problem_of(value):
            raise ValueError(problem)
        return cls(value, source, readable_by_others=readable_by_others)

    @classmethod
    def problem_of(cls, value: str) -> str | None:
        """Return why a value cannot be such a secret, as a clause without it; None if it can."""
        return None if value.isprintable() else "should hold a password alone, on one line"

    def reveal(self) -> str:
        """Return the secret itself; use it only where the other side checks it."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***, from {self.source})"
