"""The buffers of an Arrow array of strings."""

import numpy as np
import pyarrow as pa


def buffers(
    values: pa.StringArray | pa.BinaryArray,
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.int32]],
    np.ndarray[tuple[int], np.dtype[np.uint8]],
]:
    """Return an array's offsets and the bytes that they span, without a copy."""
    _, offset_buffer, data_buffer = values.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[
        values.offset : values.offset + len(values) + 1
    ]
    data = np.frombuffer(data_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    return offsets, data
