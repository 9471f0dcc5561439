"""A hash of few values, by which different uids meet."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from engine.storage import uid_hash


@contextmanager
def only_bits(mask: int) -> Iterator[None]:
    """Leave only these bits of each hash, wherever it is computed."""
    finish = uid_hash._finish

    def weaken(found: npt.NDArray[np.uint64]) -> None:
        finish(found)
        found &= np.uint64(mask)

    with patch.object(uid_hash, "_finish", weaken):
        yield
