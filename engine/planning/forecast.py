"""The numbers of requests and bytes that a plan takes."""

from dataclasses import dataclass

import pyarrow.compute as pc

from engine.payload.envelope import Envelope
from engine.payload.member_json import MEMBER_BYTES
from engine.snapshot.operation_uids import operation_blocks
from engine.snapshot.records import PlannedOperation


@dataclass(frozen=True, slots=True)
class Weight:
    """The estimated requests and bytes to send something."""

    requests: int = 0
    bytes: int = 0

    def __add__(self, other: "Weight") -> "Weight":
        return Weight(self.requests + other.requests, self.bytes + other.bytes)


def weigh(operation: PlannedOperation, envelope: Envelope, payload_bytes: int) -> Weight:
    """Return the estimated size of an operation; JSON escapes are not counted."""
    if not operation.planned:
        return Weight()
    size = sum(
        pc.sum(pc.binary_length(block.uids)).as_py() or 0
        for block in operation_blocks(operation.path, 0, operation.planned)
    )
    members = size + operation.planned * MEMBER_BYTES
    requests = max(1, -(-members // (payload_bytes - len(envelope))))
    return Weight(requests, members + requests * len(envelope))
