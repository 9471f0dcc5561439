"""A run as the ledger lists it."""

from engine.ledger.run_records import RunEntry

SECOND = 1_000_000_000
ENTRY = RunEntry(
    number=1,
    name="run-1",
    endpoint="http://127.0.0.1:8765",
    workspace="W",
    partner="p",
    cohort_id="c",
    cohort_name="n",
    cohort_description=None,
    action="add",
    status="finished",
    exit_status=0,
    reason=None,
    started_utc_ns=1_700_000_000 * SECOND,
    finished_utc_ns=1_700_000_009 * SECOND,
    source_complete=True,
)
