"""Numbers agree with their nouns."""

import pytest

from engine.model.quantity import counted


@pytest.mark.parametrize(
    ("count", "noun", "expected"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (2_000, "uid", "2,000 uids"),
        (2, "batch", "2 batches"),
        (1, "invalid row", "1 invalid row"),
    ],
)
def test_a_noun_is_singular_only_after_one(count: int, noun: str, expected: str) -> None:
    assert counted(count, noun) == expected
