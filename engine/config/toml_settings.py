"""Reads the tables of a TOML file into settings classes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields, replace
from difflib import get_close_matches
from functools import cache
from reprlib import repr as shortened
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le

from engine.config.problems import Problems
from engine.config.variables import Keys, Substituted, is_place, place_in_array
from engine.model.workspace import KEY_VARIABLE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic import TypeAdapter

Settings = TypeVar("Settings", bound="DataclassInstance")

NOT_A_KEY = {"is_key": False}
"""The metadata of a field that no key of the file sets."""
_NO_KEY_IN_FILE = (
    "does not belong in a file that is copied, shared and versioned: put the key into a file of its"
    " own (mode 0600) and name that as"
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dotted(keys: Keys) -> str:
    """Return a key as TOML writes it: `cohorts."a b".name`; a table of an array has its number."""
    names = (key if _BARE_KEY.fullmatch(key) or is_place(key) else _quoted(key) for key in keys)
    return ".".join(names).replace(".[", "[")


def _quoted(key: str) -> str:
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in key[:_SHOWN])
    text = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{text}"' if len(key) <= _SHOWN else f'"{text}…"'


_SHOWN = 60
"""Characters of a quoted key that are shown."""


class Tables:
    """Reads settings classes from one TOML document, and reports its problems.

    No sentence repeats a value that came from a variable, since that may be secret.
    """

    def __init__(self, label: str, content: Substituted, problems: Problems) -> None:
        self.label = label
        """The file's name in messages."""
        self._content = content
        self._known: dict[Keys, set[str]] = {(): set()}
        self._arrays: set[Keys] = set()
        """Places of arrays of tables that were read."""
        self._problems = problems

    def read(self, at: Keys, settings: type[Settings], base: Settings | None = None) -> Settings:
        """Return `settings` with the values in the table `at`.

        A key that is absent or invalid has the value in `base`, or else the default. `should_be` in
        a field's metadata describes valid values; without it, the type does.
        """
        from pydantic import ValidationError  # noqa: PLC0415 - takes 0.1 s, which --help need not

        values = self._table(at)
        keys = key_fields(settings)
        self._known.setdefault(at, set()).update(keys)
        valid: dict[str, Any] = {}
        for key in keys:
            place = (*at, key)
            if key not in values:
                continue
            if (problem := self._content.problem_in(place)) is not None:
                self.refuse(*problem)
                continue
            try:
                valid[keys[key].name] = adapter_of(settings, key).validate_python(values[key])
            except ValidationError:
                found = "" if key in secret_keys(settings) else f", {self._not(place)}"
                self.refuse(place, f"should be {expected_of(settings, key)}{found}")
        return settings(**valid) if base is None else replace(base, **valid)

    def tables_in(self, at: Keys) -> list[Keys]:
        """Return the place of each table in an array of tables, such as `limits.hours`."""
        self._known.setdefault(at[:-1], set()).add(at[-1])
        found = self._table(at[:-1]).get(at[-1], [])
        if isinstance(found, list) and all(isinstance(each, dict) for each in found):
            self._arrays.add(at)
            return [(*at, place_in_array(number)) for number in range(len(found))]
        self.refuse(at, f"should be tables `[[{dotted(at)}]]`, {self._not(at)}")
        return []

    def names(self, at: Keys) -> list[str]:
        """Return the names of the tables in a table whose keys are names, such as `cohorts`."""
        self._known.setdefault(at, set())
        return list(self._table(at))

    def skip(self, name: str) -> None:
        """Accept a key of the top level, and all below it, unread."""
        self._known[()].add(name)

    def holds(self, keys: Keys) -> bool:
        """Return whether the document sets a key, to any value."""
        return keys[-1] in self._table(keys[:-1])

    def is_table(self, keys: Keys) -> bool:
        """Return whether the document has a table of this name."""
        return isinstance(self._table(keys[:-1]).get(keys[-1]), dict)

    def place(self, keys: Keys) -> str:
        """Return how a message names a key: with the file."""
        return f"{self.label}: `{dotted(keys)}`"

    def refuse(self, keys: Keys, clause: str) -> None:
        """Add a problem with a key; the clause follows its name."""
        self._problems.add(f"{self.place(keys)} {clause}")

    def shown(self, keys: Keys, value: object) -> str:
        """Return a value for a message, or the variables that it came from."""
        names = self.variables(keys)
        if names:
            return f"the value of {' and '.join(f'`${{{name}}}`' for name in names)}"
        if isinstance(value, bool):
            return str(value).lower()
        return shortened(value)

    def variables(self, keys: Keys) -> list[str]:
        """Return the variables in the value of a key, and in all below it."""
        names = self._content.names.items()
        found = [name for place, each in names if place[: len(keys)] == keys for name in each]
        return list(dict.fromkeys(found))

    def fixed_text(self, keys: Keys) -> str:
        """Return the text of a key as the file has it, without what came from variables."""
        value = self._table(keys[:-1]).get(keys[-1], "")
        return self._content.fixed.get(keys, value if isinstance(value, str) else "")

    def refuse_unknown(self) -> None:
        """Add a problem for each key unknown to the classes read so far, with a similar key."""
        self._refuse_unknown((), self._content.document)

    def _refuse_unknown(self, at: Keys, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            keys = (*at, key)
            if keys in self._known and isinstance(value, dict):
                self._refuse_unknown(keys, value)
            elif keys in self._known:
                self.refuse(keys, f"should be a table, not {self.shown(keys, value)}")
            elif keys in self._arrays:
                for number, each in enumerate(value):
                    self._refuse_unknown((*keys, place_in_array(number)), each)
            elif key not in self._known[at]:
                sentence = self._misnamed(keys, is_table=not at and isinstance(value, dict))
                self._problems.add(f"{self.label}: {sentence}")

    def _table(self, keys: Keys) -> Mapping[str, Any]:
        table: Any = self._content.document
        for key in keys:
            if isinstance(table, list) and is_place(key):
                table = table[int(key[1:-1]) - 1]
            else:
                table = table.get(key, {}) if isinstance(table, dict) else {}
        return table if isinstance(table, dict) else {}

    def _not(self, keys: Keys) -> str:
        return f"not {self.shown(keys, self._table(keys[:-1])[keys[-1]])}"

    def _misnamed(self, keys: Keys, *, is_table: bool) -> str:
        name = dotted(keys)
        if keys[-1] == "api_key":
            is_named = keys[0] == "workspaces"
            place = f"`{name}_file`" if is_named else "`workspace.api_key_file`"
            variable = "its variable" if is_named else f"`{KEY_VARIABLE}`"
            return f"`{name}` {_NO_KEY_IN_FILE} {place}, or set {variable}"
        if is_table:
            names = {at[0] for at in self._known if at}
            return f"unknown table `{name}`; did you mean `{_nearest(name, names)}`?"
        # Of thousands of cohorts, only the one in question.
        tables = [at for at in self._known if len(at) < _TOP or at[:_TOP] == keys[:_TOP]]
        places = [(*at, key) for at in tables for key in self._known[at]]
        places += [at for at in tables if len(at) > _TOP]
        same_key = [each for each in places if each[-1] == keys[-1]]
        beside = [each for each in places if each[:-1] == keys[:-1] and len(keys) > _TOP]
        meant = _nearest(name, map(dotted, same_key or beside or places))
        return f"unknown key `{name}`; did you mean `{meant}`?"


_TOP = 2
"""Keys to a value of a table that is not within another one."""


def _nearest(name: str, known: Iterable[str]) -> str:
    # Sorted, because sets are unordered and ties must not vary between runs.
    return get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]


@cache
def key_fields(settings: "type[DataclassInstance]") -> "dict[str, Field[Any]]":
    """Return the fields of a settings class that keys of the file set, by key.

    A field whose name would be a word of Python ends in `_`.
    """
    found = (each for each in fields(settings) if each.metadata.get("is_key", True))
    return {each.name.removesuffix("_"): each for each in found}


@cache
def secret_keys(settings: "type[DataclassInstance]") -> frozenset[str]:
    """Return the keys whose values may be secret, so that no message repeats them."""
    return frozenset(
        name for name, each in key_fields(settings).items() if each.metadata.get("is_secret")
    )


@cache
def adapter_of(settings: "type[DataclassInstance]", key: str) -> "TypeAdapter[Any]":
    """Return what validates the value of a key, and describes it as a JSON schema."""
    from pydantic import ConfigDict, TypeAdapter  # noqa: PLC0415 - takes 0.1 s

    hint = get_type_hints(settings, include_extras=True)[key_fields(settings)[key].name]
    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))


def expected_of(settings: "type[DataclassInstance]", key: str) -> str:
    """Return a description of the values of a key: `a whole number from 1 to 10,000`."""
    found = key_fields(settings)[key]
    told: str | None = found.metadata.get("should_be")
    return told or _described(get_type_hints(settings, include_extras=True)[found.name])


_NOUNS = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}


def _described(hint: Any) -> str:  # noqa: ANN401 - a type, as it is written beside a field
    kinds = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    kind = next(kind for kind in kinds if kind is not NoneType)
    if get_origin(kind) is Literal:
        names = [name for each in kinds for name in get_args(each)]
        return "one of " + ", ".join(f'"{name}"' for name in names)
    bounds = getattr(kind, "__metadata__", ())
    noun = _NOUNS[get_args(kind)[0] if bounds else kind]
    least = next((bound.ge for bound in bounds if isinstance(bound, Ge)), None)
    most = next((bound.le for bound in bounds if isinstance(bound, Le)), None)
    return noun if least is None or most is None else f"{noun} from {least:,} to {most:,}"
