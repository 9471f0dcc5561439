"""How much of the memory is used for rows that are processed together."""

from engine.storage.capacity import partition_bytes, threads_for
from engine.storage.settings import PlanningSettings


def test_rows_that_are_processed_together_fit_into_memory_and_into_an_array() -> None:
    for megabytes in (64, 500, 100_000, 100_000_000):
        for threads in (1, 2, 256):
            settings = PlanningSettings(memory_megabytes=megabytes, threads=threads)
            used = threads_for(settings)
            size = partition_bytes(settings, used)
            assert 100_000 < size < 2**30
            assert size * 3 * used <= megabytes * 1_000_000
