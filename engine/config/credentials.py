"""The API key, read from its file."""

import os
import stat
from pathlib import Path

from engine.model.workspace import ApiKey

_KEY_FILE_BYTES = 4096
"""How much of a key file is read: a longer one holds no key."""


def read_key_file(path: Path) -> ApiKey:
    """Return the key from a file that holds nothing else.

    Raises `ValueError` as `ApiKey.parse` does. The clause does not repeat the path either, for that
    may be the key itself, put in its place by mistake.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_KEY_FILE_BYTES)
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {error.strerror}") from None
    return ApiKey.parse(
        content.decode("latin-1"),
        "api_key_file",
        readable_by_others=bool(mode & (stat.S_IRGRP | stat.S_IROTH)),
    )
