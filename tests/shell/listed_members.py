"""Lists of members from elsewhere, taken over into a cohort's snapshot."""

from collections.abc import Iterable, Iterator, Sequence

from engine.delivery.stop import StopSwitch
from engine.ledger.snapshot_records import Generation
from engine.planning.guards import Allowance
from engine.planning.settings import GuardSettings
from engine.runs import transfer
from engine.snapshot.store import SnapshotStore
from engine.source.block import Block
from exports import Export, Row


def listed(uids: Iterable[str]) -> Iterator[Block]:
    return Export([[Row(uid) for uid in uids]]).blocks(7)


async def adopt(store: SnapshotStore, uids: Sequence[str]) -> Generation:
    return (await transfer.adopt(store, listed(uids), StopSwitch())).generation


async def reconcile(
    store: SnapshotStore,
    uids: Sequence[str],
    guards: GuardSettings = GuardSettings(),  # noqa: B008 - it is frozen
    allowances: Sequence[Allowance] = (),
) -> Generation:
    brought = await transfer.reconcile(store, listed(uids), StopSwitch(), guards, allowances)
    return brought.generation
