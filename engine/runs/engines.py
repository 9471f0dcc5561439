"""The engine that makes a cohort's plans and keeps its snapshots, by the configuration."""

from pathlib import Path

from engine.clock import Clock
from engine.config.loading import Config
from engine.model.cohort import CohortKey
from engine.planning.local_engine import LOCAL
from engine.runs.ports import PlanEngine
from engine.snapshot.ports import SnapshotIndex
from engine.snapshot.store import SnapshotStore


def engine_of(config: Config, root: Path, key: CohortKey) -> PlanEngine:
    """Return the engine of a cohort whose ledger is in the folder `root`."""
    del config, root, key
    return LOCAL


def store_of(
    config: Config, root: Path, index: SnapshotIndex, key: CohortKey, clock: Clock
) -> SnapshotStore:
    """Return the snapshots of a cohort whose ledger, in the folder `root`, has the `index`."""
    engine = engine_of(config, root, key)
    return SnapshotStore(root, index, key, config.mirror, config.planning, clock, engine)
