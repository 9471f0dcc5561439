"""Encodes uids as JSON members of a payload, and computes their digest."""

import hashlib

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from engine.storage.arrow import buffers

MEMBER_BYTES = len('{"uid":""},')
"""Bytes of a member without its encoded uid, including a comma; the last has no comma."""

_MEMBER_START, _MEMBER_END = b'{"uid":"', b'"}'
_BETWEEN_UIDS = (_MEMBER_END + b"," + _MEMBER_START).decode()
_SPACE, _QUOTE, _BACKSLASH = b' "\\'


def encoded(uids: pa.StringArray) -> pa.StringArray:
    """Return uids as orjson writes them inside quotes; `uids` itself if none needs escapes."""
    offsets, data = buffers(uids)
    is_plain = data.min(initial=_SPACE) >= _SPACE
    if is_plain and not np.any(data == _QUOTE) and not np.any(data == _BACKSLASH):
        return uids
    special = np.flatnonzero((data < _SPACE) | (data == _QUOTE) | (data == _BACKSLASH))
    to_escape = np.zeros(len(uids), np.bool_)
    to_escape[np.searchsorted(offsets, special + offsets[0], side="right") - 1] = True
    escaped = [orjson.dumps(uid)[1:-1] for uid in uids.filter(pa.array(to_escape)).to_pylist()]
    return pc.replace_with_mask(
        uids, pa.array(to_escape), pa.array(escaped, pa.binary()).cast(pa.string())
    )


def members_of(uids: pa.StringArray) -> bytes:
    """Return uids as comma-separated members, with the same bytes that orjson would write."""
    return members_of_encoded(encoded(uids))


def members_of_encoded(uids: pa.StringArray) -> bytes:
    """Return uids, which are already `encoded`, as comma-separated members."""
    if not len(uids):
        return b""
    whole = pa.ListArray.from_arrays(pa.array([0, len(uids)], pa.int32()), uids)
    joined = pc.binary_join(whole, _BETWEEN_UIDS)[0].as_buffer()
    return b"".join((_MEMBER_START, joined, _MEMBER_END))


def digest_of(uids: pa.StringArray) -> bytes:
    """Return the SHA-256 of uids: their byte lengths as little-endian int32, then their bytes."""
    offsets, data = buffers(uids)
    digest = hashlib.sha256(np.diff(offsets).astype("<i4").tobytes())
    digest.update(data.data)
    return digest.digest()
