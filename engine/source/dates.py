"""Dates in the names of exports: `{date}`, `{yesterday}`, `{date:%Y/%m/%d}`.

Only configured sources have them: a path on the command line may have braces of its own. `{{` and
`}}` stand for a brace. The rest of a name, wildcards included, stays as it is.
"""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from string import Formatter

_DAYS_AGO = {"date": 0, "yesterday": 1}
_DIRECTIVES = "YmdyjGVu"
"""Directives of `strftime` that every system writes in the same way, in digits."""
_FORMAT = re.compile(rf"(?:[^%{{}}]|%[{_DIRECTIVES}%])+")


def date_problem(name: str) -> str | None:
    """Return why the dates in a source's name cannot be expanded; None if they can."""
    try:
        for _ in _parts(name):
            pass
    except ValueError as error:
        return str(error)
    return None


def expand_dates(name: str, day: date) -> str:
    """Return a source's name with the dates of `day`; raises `ValueError` for a `date_problem`."""
    return "".join(
        literal + ("" if days is None else format(day - timedelta(days), format_))
        for literal, days, format_ in _parts(name)
    )


def has_dates(name: str) -> bool:
    """Return whether a valid name depends on the date."""
    return any(days is not None for _, days, _ in _parts(name))


def without_dates(text: str) -> str:
    """Return a name that `expand_dates` makes `text` of, such as for the folder before a name."""
    return text.replace("{", "{{").replace("}", "}}")


def _parts(name: str) -> Iterator[tuple[str, int | None, str]]:
    """Yield literal texts, each with the date that follows: days ago (None: no date), format."""
    try:
        found = list(Formatter().parse(name))
    except ValueError as error:
        raise ValueError(f"{error}; '{{{{' and '}}}}' stand for a brace") from None
    for literal, field, format_, conversion in found:
        if field is None:
            yield literal, None, ""
            continue
        if field not in _DAYS_AGO or conversion:
            text = field + (f"!{conversion}" if conversion else "")
            known = ", ".join(f"{{{known}}}" for known in _DAYS_AGO)
            raise ValueError(
                f"{{{text}}} is not known, only {known} are; '{{{{' and '}}}}' stand for a brace"
            )
        if format_ and not _FORMAT.fullmatch(format_):
            listed = ", ".join(f"%{each}" for each in _DIRECTIVES)
            raise ValueError(
                f"the format {format_!r} should have as directives only {listed} and %%"
            )
        yield literal, _DAYS_AGO[field], format_ or "%Y-%m-%d"
