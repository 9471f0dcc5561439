"""The format of the records on stderr, as the command line asks for it."""

import sys


def is_json() -> bool:
    """Return whether each record is a JSON object, and not a line of logfmt.

    The arguments are read directly, because a record may be due before they are parsed.
    """
    arguments = sys.argv[1:]
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return "--log-format=json" in arguments or ("--log-format", "json") in pairs
