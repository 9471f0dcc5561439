"""How much of a ceiling a sync uses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.settings import PacingSettings
from engine.sync.ceiling_use import CeilingUse

SECOND = 1_000_000_000


@given(st.lists(st.integers(0, 3600), min_size=1, max_size=50))
def test_a_moment_at_which_several_cohorts_wait_is_allowed_once(seconds: list[int]) -> None:
    use = CeilingUse(HourlyCeiling(PacingSettings(300, 60.0)))
    assert (use.sent, use.allowed) == (0, 0.0)
    for second in sorted(seconds):
        use.note_sent(second * SECOND)
    assert use.sent == len(seconds)
    assert use.allowed == pytest.approx(1 + 5 * (max(seconds) - min(seconds)))
