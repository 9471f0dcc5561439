r"""Text from outside, such as names and answers, made safe to show.

It may hold characters that control a terminal, change the direction of a line, or are invisible.
One set of characters, `UNSAFE`, is escaped everywhere.
"""

import re

UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\xa0\xad"  # controls, C0 and C1 (with U+0085); no-break space, soft hyphen
    "\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e"
    "\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000"  # spaces, zero width, line ends, direction
    "\ud800-\udfff\ufeff\ufff9-\ufffb"  # surrogates, which are no text; BOM
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f"  # tags
    "]"
)
"""Controls, format characters, separators other than the space, and surrogates (categories Cc, Cf,
Zl, Zp, Zs and Cs of Unicode): they control a terminal, or are invisible."""


def printable(text: str) -> str:
    r"""Return a line with each unsafe character as a Python escape (`\x1b`, `\u2028`)."""
    return UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)
