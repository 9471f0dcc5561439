"""What a hint for a single run means in a sync, which has fewer options and reads tables."""

import re

KEY_OF = {
    "--column": "column",
    "--exclude-column": "exclude.column",
    "--format": "format",
    "--header": "header",
    "--no-header": "header",
    "--strip": "strip",
    "--no-strip": "strip",
    "--on-changed": "on_changed",
    "--cohort-name": "name",
}
"""Options of single runs, and the keys of a cohort's table that stand for them."""
COMMAND_OF = {"--trust": "mirror", "--assume-empty": "mirror", "--record": "push"}
"""Options without such a key, and the command that has them."""
_COMMAND = re.compile(r"`cohortsync [^`]*`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def options_in(text: str) -> list[str]:
    """Return the options that a text names, without those of commands that it quotes."""
    return list(dict.fromkeys(_OPTION.findall(_COMMAND.sub("", text))))


def in_sync(text: str, cohort: str) -> str:
    """Add to a text where a sync takes the options that it names; `cohort` is the cohort's key."""
    named = options_in(text)
    keys = dict.fromkeys(KEY_OF[each] for each in named if each in KEY_OF)
    commands = dict.fromkeys(COMMAND_OF[each] for each in named if each in COMMAND_OF)
    parts = [text]
    if keys:
        shown = ", ".join(f"`{each}`" for each in keys)
        parts.append(f"in the configuration, that is {shown} of [cohorts.{cohort}]")
    parts += [f"`cohortsync {each} --cohort {cohort}` has this option" for each in commands]
    return "; ".join(parts)
