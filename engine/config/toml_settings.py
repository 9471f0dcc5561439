"""Reads the tables of a TOML file into settings classes."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from reprlib import repr as shortened
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")

NO_KEY_IN_FILE = (
    "does not belong in a file that is copied, shared and versioned: put the key into a file of its"
    " own (mode 0600) and name that as `workspace.api_key_file`, or set `MOENGAGE_API_KEY`"
)


class Tables:
    """Reads settings classes from a TOML document, and lists its problems.

    No sentence about a key contains a value that may be secret.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._known: dict[str, set[str]] = {}
        self.invalid: list[str] = []
        """One sentence for each key with an invalid value, so far."""

    def read(self, table: str, settings: type[Settings]) -> Settings:
        """Return `settings` with the values in `table`; the default replaces an invalid value.

        `should_be` in a field's metadata describes valid values; without it, the type does.
        """
        # Importing pydantic takes a tenth of a second, which `--help` does not need.
        from pydantic import ConfigDict, TypeAdapter, ValidationError  # noqa: PLC0415 - see above

        strict = ConfigDict(strict=True, allow_inf_nan=False)
        hints = get_type_hints(settings, include_extras=True)
        values = self._table(table)
        known = {field.name: field.metadata.get("should_be") for field in fields(settings)}
        self._known.setdefault(table, set()).update(known)
        valid: dict[str, Any] = {}
        for key, should_be in known.items():
            if key not in values:
                continue
            try:
                valid[key] = TypeAdapter(hints[key], config=strict).validate_python(values[key])
            except ValidationError:
                expected = should_be or _described(hints[key])
                self.invalid.append(f"`{table}.{key}` should be {expected}, {_not(values[key])}")
        return settings(**valid)

    def holds(self, table: str, key: str) -> bool:
        """Return whether the document sets `key` in `table`, to any value."""
        return key in self._table(table)

    @property
    def unknown(self) -> list[str]:
        """Return a sentence for each key unknown to the classes read so far, with a similar key."""
        found = []
        for name, table in self._document.items():
            if name in self._known and isinstance(table, dict):
                unknown = [key for key in table if key not in self._known[name]]
                found += [self._misnamed(f"{name}.{key}") for key in unknown]
            elif name in self._known:
                found.append(f"`{name}` should be a table, {_not(table)}")
            elif isinstance(table, dict):
                found.append(
                    f"unknown table `{name}`; did you mean `{_nearest(name, self._known)}`?"
                )
            else:
                found.append(self._misnamed(name))
        return found

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self._document.get(name, {})
        return table if isinstance(table, dict) else {}

    def _misnamed(self, name: str) -> str:
        last = name.rpartition(".")[2]
        if last == "api_key":
            return f"`{name}` {NO_KEY_IN_FILE}"
        keys = {f"{table}.{key}": key for table, keys in self._known.items() for key in keys}
        in_another_table = [full for full, key in keys.items() if key == last]
        meant = _nearest(name, in_another_table or keys)
        return f"unknown key `{name}`; did you mean `{meant}`?"


def _nearest(name: str, known: Iterable[str]) -> str:
    # Sorted, because sets are unordered and ties must not vary between runs.
    return get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]


_NOUNS = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}


def _described(hint: Any) -> str:  # noqa: ANN401 - a type, as it is written beside a field
    """Return a description of a type's values: `a whole number from 1 to 10,000`."""
    kinds = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    kind = next(kind for kind in kinds if kind is not NoneType)
    bounds = getattr(kind, "__metadata__", ())
    noun = _NOUNS[get_args(kind)[0] if bounds else kind]
    least = next((bound.ge for bound in bounds if isinstance(bound, Ge)), None)
    most = next((bound.le for bound in bounds if isinstance(bound, Le)), None)
    return noun if least is None or most is None else f"{noun} from {least:,} to {most:,}"


def _not(value: object) -> str:
    if isinstance(value, bool):
        return f"not {str(value).lower()}"
    return f"not {shortened(value)}"
