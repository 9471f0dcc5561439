"""Regular expressions that mean the same in RE2, here, and in PostgreSQL and DuckDB.

They describe ASCII text. A pattern that has anything else, as `.`, `[^…]` or flags, is judged here.
"""

import re

_CLASSES = {r"\d": "[0-9]", r"\w": "[0-9A-Za-z_]"}
_ATOM = re.compile(
    r"""(?P<text>[0-9A-Za-z_@%~#&=:;,/<>!\ -])
    | (?P<class>\\[dw])
    | \\(?P<escaped>[][.+*?(){}|$@_/-])
    | (?P<set>\[-?(?:[0-9]-[0-9]|[A-Z]-[A-Z]|[a-z]-[a-z]|[0-9A-Za-z_@.+:%/](?!-[^]]))+-?\])
    | (?P<close>\))""",
    re.VERBOSE,
)
_BETWEEN = re.compile(r"\(\?:|\(|\||\^|\$")
_REPEAT = re.compile(r"[+*?]\??|\{(?P<least>\d{1,3})(?:(?P<comma>,)(?P<most>\d{1,3})?)?\}\??")
_MOST_REPEATS = 255


def common_pattern(pattern: str) -> str | None:
    """Return a pattern as both databases understand it; None if they might understand another.

    `pattern` is a valid expression of RE2. The result has no quotes and no backslashes.
    """
    found, at, may_repeat = "", 0, False
    while at < len(pattern):
        if (atom := _ATOM.match(pattern, at)) is not None:
            found, at, may_repeat = found + _written(atom), atom.end(), True
        elif (between := _BETWEEN.match(pattern, at)) is not None:
            found, at, may_repeat = found + between[0], between.end(), False
        elif may_repeat and (repeat := _REPEAT.match(pattern, at)) is not None:
            if max(int(repeat["least"] or 0), int(repeat["most"] or 0)) > _MOST_REPEATS:
                return None
            found, at, may_repeat = found + repeat[0], repeat.end(), False
        else:
            return None
    return found


def _written(atom: re.Match[str]) -> str:
    if atom["class"] is not None:
        return _CLASSES[atom["class"]]
    if (escaped := atom["escaped"]) is None:
        return atom[0]
    # In a set of its own, it needs no backslash; `[` cannot stand for itself in PostgreSQL's.
    return escaped if escaped in "@_/-" else f"[{escaped}]"
