"""What became of each record of a file, in the shape that the source's tests compare."""

from collections.abc import Iterable

from engine.source.block import Block
from engine.source.formats.rows import RawRows, to_block

Outcome = str | tuple[str]
"""A record's uid, or the reason why it has none."""


def outcomes(read: Iterable[RawRows], *, strip: bool = False) -> list[Outcome]:
    """Settle what a reader yields, and lay it out record by record."""
    found: list[Outcome] = []
    for rows in read:
        block = to_block(rows, file="f", first_record=len(found) + 1, strip=strip)
        found += laid_out(block)
    return found


def laid_out(block: Block) -> list[Outcome]:
    """Return what became of each of a block's records, in order; the block must balance."""
    skipped = {run.record + n: run.reason for run in block.skipped for n in range(run.count)}
    assert block.records == len(block.uids) + sum(run.count for run in block.skipped)
    assert block.records == len(block.uids) + len(skipped)
    uids = iter(block.uids.to_pylist())
    records = range(block.first_record, block.first_record + block.records)
    return [(skipped[record],) if record in skipped else next(uids) for record in records]
