"""How many requests and bytes a plan takes."""

from dataclasses import dataclass

import pyarrow.compute as pc

from engine.payload.envelope import Envelope
from engine.payload.member_json import MEMBER_BYTES
from engine.snapshot.operation_file import leg_blocks
from engine.snapshot.records import PlannedLeg


@dataclass(frozen=True, slots=True)
class Weight:
    """About what it takes to send something."""

    requests: int = 0
    bytes: int = 0

    def __add__(self, other: "Weight") -> "Weight":
        return Weight(self.requests + other.requests, self.bytes + other.bytes)


def weigh(leg: PlannedLeg, envelope: Envelope, payload_bytes: int) -> Weight:
    """Return about what a leg takes; escapes are left out."""
    if not leg.planned:
        return Weight()
    size = sum(
        pc.sum(pc.binary_length(block.uids)).as_py() or 0
        for block in leg_blocks(leg.path, 0, leg.planned)
    )
    members = size + leg.planned * MEMBER_BYTES
    requests = max(1, -(-members // (payload_bytes - len(envelope))))
    return Weight(requests, members + requests * len(envelope))
