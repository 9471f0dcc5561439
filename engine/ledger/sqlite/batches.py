"""The batches that a run has cut from its export, as the ledger knows them."""

import sqlite3

from engine.payload.batch import KnownBatch

_ROOTS = """
SELECT batch, uid_count, records_through, digest, is_last,
       state = 'open' OR state = 'split' AND EXISTS (
         SELECT 1 FROM batch AS part WHERE part.run = root.run AND part.state = 'open'
         AND part.first_uid >= root.first_uid
         AND part.first_uid < root.first_uid + root.uid_count
       )
FROM batch AS root WHERE run = ? AND parent IS NULL ORDER BY first_uid
"""


def known_batches(connection: sqlite3.Connection, run: int) -> list[KnownBatch]:
    """Return the batches cut so far, in the order of the export."""
    return [
        KnownBatch(number, uid_count, through, digest, bool(is_last), bool(is_open))
        for number, uid_count, through, digest, is_last, is_open in connection.execute(
            _ROOTS, (run,)
        )
    ]
