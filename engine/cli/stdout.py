"""Writing to stdout, which may be gone or full."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import IncompleteError


@contextmanager
def printing() -> Iterator[None]:
    """Print on stdout, to the last byte.

    That its reader may have gone, as `head` does, is no error. Raises `IncompleteError` where it
    cannot be written otherwise.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go()
    except OSError as error:
        _let_go()
        raise IncompleteError(f"stdout cannot be written: {error.strerror}") from None


def _let_go() -> None:
    """Send what stdout still holds nowhere, or the interpreter would stumble over it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
