from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.settings import PacingSettings
from engine.sync.remaining_work import RemainingWork

SECOND = 1_000_000_000
ONE_A_SECOND = HourlyCeiling(PacingSettings(60, 60))


def test_what_is_sent_and_done_shortens_what_is_left() -> None:
    work = RemainingWork({"a": None, "b": 100 * SECOND, "c": None}, ONE_A_SECOND)
    work.expect("a", 60, is_exact=True)
    work.expect("b", 80, is_exact=False)
    first = work.forecasts(0)
    assert [each.done_utc_ns // SECOND for each in first.values()] == [60, 140, 140]
    assert first["b"].is_late
    assert first["b"].share_by_deadline == 0.5
    for _ in range(30):
        work.note_sent("a")
    second = work.forecasts(30 * SECOND)
    assert [each.done_utc_ns // SECOND for each in second.values()] == [60, 140, 140]
    work.note_done("a")
    third = work.forecasts(30 * SECOND)
    assert list(third) == ["b", "c"]
    assert third["b"].done_utc_ns // SECOND == 110  # Nothing of the first is left to wait for.


def test_more_requests_than_expected_count_as_none_left() -> None:
    work = RemainingWork({"a": None}, ONE_A_SECOND)
    work.expect("a", 1, is_exact=False)
    work.note_sent("a")
    work.note_sent("a")
    assert work.forecasts(7 * SECOND)["a"].done_utc_ns == 7 * SECOND
