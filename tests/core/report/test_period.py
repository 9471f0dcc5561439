"""What a period has changed."""

from dataclasses import replace

from engine.report.accounts import MirrorFigures, Standing
from period_reports import accounts, cohort, report


def test_what_a_stopped_mirror_has_changed_counts_beside_what_the_last_one_did() -> None:
    last = cohort("VIP customers")
    figures = MirrorFigures(add=Standing(900, 700, pending=200), remove=Standing(50, 50))
    stopped = replace(accounts("VIP customers"), status="incomplete", mirror=figures)
    found = replace(report([last]), runs=[stopped, accounts("VIP customers")]).change
    assert (found.added, found.removed) == (700 + 1200, 50 + 80)
    assert (found.unchanged, found.pending) == (100_000, 0)
