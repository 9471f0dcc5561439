"""Uids as the members of a payload: how JSON writes them, and the digest of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from engine.source.arrow import buffers

MEMBER_BYTES = len('{"uid":""},')
"""What a member adds to the payload besides its encoded uid; the last one has no comma."""

MEMBER_START, MEMBER_END = b'{"uid":"', b'"}'
BETWEEN_UIDS = MEMBER_END + b"," + MEMBER_START
_SPACE, _QUOTE, _BACKSLASH = b' "\\'


def encoded(uids: pa.StringArray) -> pa.StringArray:
    """Return each uid as orjson writes it inside its quotes."""
    offsets, data = buffers(uids)
    is_plain = data.min(initial=_SPACE) >= _SPACE
    if is_plain and not np.any(data == _QUOTE) and not np.any(data == _BACKSLASH):
        return uids
    places = np.flatnonzero((data < _SPACE) | (data == _QUOTE) | (data == _BACKSLASH))
    to_escape = np.zeros(len(uids), np.bool_)
    to_escape[np.searchsorted(offsets, places + offsets[0], side="right") - 1] = True
    escaped = [orjson.dumps(uid)[1:-1] for uid in uids.filter(pa.array(to_escape)).to_pylist()]
    return pc.replace_with_mask(
        uids, pa.array(to_escape), pa.array(escaped, pa.binary()).cast(pa.string())
    )


@dataclass(frozen=True, slots=True)
class UidSlice:
    """Uids that follow each other in one block, as they are and as a payload holds them."""

    uids: pa.StringArray
    encoded: pa.StringArray

    @property
    def members(self) -> bytes:
        """The uids with what stands between two of them."""
        together = pa.ListArray.from_arrays(
            pa.array([0, len(self.encoded)], pa.int32()), self.encoded
        )
        joined: bytes = pc.binary_join(together, BETWEEN_UIDS.decode())[0].as_buffer().to_pybytes()
        return joined


def digest_of(parts: Sequence[UidSlice]) -> bytes:
    """Return the SHA-256 of uids: their byte lengths as little-endian int32, then their bytes."""
    spans = [buffers(part.uids) for part in parts]
    digest = hashlib.sha256()
    for offsets, _ in spans:
        digest.update(np.diff(offsets).astype("<i4").tobytes())
    for _, data in spans:
        digest.update(data.data)
    return digest.digest()
