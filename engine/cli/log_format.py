"""The format of the records on stderr, as the command line asks for it."""

import sys
from itertools import pairwise


def is_json() -> bool:
    """Return whether each record is a JSON object, and not a line of logfmt.

    The arguments are read directly, because a record may be due before they are parsed.
    """
    arguments = sys.argv[1:]
    is_named = ("--log-format", "json") in pairwise(arguments)
    return is_named or "--log-format=json" in arguments
