"""The ceiling in force at each moment, if it varies by the hour."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.settings import Hours, PacingSettings

BERLIN = ZoneInfo("Europe/Berlin")
SECOND = 1_000_000_000
MIDNIGHT = datetime(2026, 11, 27, tzinfo=UTC)
DAY = Hours(time(8), time(20), 100)
NIGHT = Hours(time(23, 30), time(1), 0)


def ceiling(*hours: Hours, seconds: float = 60.0, zone: ZoneInfo | None = None) -> HourlyCeiling:
    return HourlyCeiling(PacingSettings(300, seconds, hours, zone or ZoneInfo("UTC")))


def ns(text: str, zone: ZoneInfo | None = None, fold: int = 0) -> int:
    """Return a local time of November 2026, or of the date that it begins with."""
    moment = datetime.fromisoformat(text if "-" in text else f"2026-11-27 {text}")
    return round(moment.replace(tzinfo=zone or UTC, fold=fold).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("at", "requests"),
    [
        *(("07:58:59", 100), ("07:58:58", 300), ("08:00", 100), ("19:59", 100)),
        *(("20:01:01", 100), ("20:01:02", 300), ("23:28:58", 300), ("23:28:59", 0)),
        *(("00:00", 0), ("01:01:01", 0), ("01:01:02", 300), ("03:00", 300)),
    ],
)
def test_a_lower_ceiling_holds_for_a_window_before_and_after_its_hours(at, requests) -> None:
    assert ceiling(DAY, NIGHT).requests_at(ns(at)) == requests


def test_hours_of_a_higher_ceiling_begin_a_window_late_and_end_a_window_early() -> None:
    more = ceiling(Hours(time(8), time(20), 900))
    assert [more.requests_at(ns(at)) for at in ("08:01:01", "08:01:02")] == [300, 900]
    assert [more.requests_at(ns(at)) for at in ("19:58:58", "19:58:59")] == [900, 300]


@pytest.mark.parametrize(
    ("at", "fold", "requests"),
    [
        # The clocks skip 02:00 to 03:00: of these hours, half an hour is left.
        *(("2026-03-29 01:57", 0, 300), ("2026-03-29 03:10", 0, 100)),
        *(("2026-03-29 03:29", 0, 100), ("2026-03-29 03:32", 0, 300)),
        # They show 02:00 to 03:00 twice: the hours begin twice.
        *(("2026-10-25 02:10", 0, 300), ("2026-10-25 02:45", 0, 100)),
        *(("2026-10-25 02:10", 1, 300), ("2026-10-25 02:45", 1, 100)),
        *(("2026-10-25 03:29", 0, 100), ("2026-10-25 03:32", 0, 300)),
    ],
)
def test_the_hours_follow_the_local_clock_when_it_is_set(at, fold, requests) -> None:
    by_hour = ceiling(Hours(time(2, 30), time(3, 30), 100), zone=BERLIN)
    assert by_hour.requests_at(ns(at, BERLIN, fold)) == requests


def test_what_is_allowed_counts_each_hour_by_its_own_ceiling() -> None:
    by_hour = ceiling(DAY)
    an_hour_each = by_hour.allowed_between(ns("07:00"), ns("09:00"))
    assert an_hour_each == pytest.approx(60 * 300 + 60 * 100 - 200 * 61.2 / 60)
    assert by_hour.allowed_between(ns("09:00"), ns("07:00")) == 0


def test_a_pause_is_waited_for() -> None:
    by_hour = ceiling(NIGHT)
    assert by_hour.resumes_at(ns("12:00")) == ns("12:00")
    resumed = by_hour.resumes_at(ns("23:40"))
    assert resumed == ns("2026-11-28 01:01:01") + SECOND // 5
    assert by_hour.done_at(300, ns("23:40")) == resumed + 60 * SECOND
    assert by_hour.allowed_between(ns("23:40"), resumed) == 0


def test_without_hours_it_is_the_same_at_any_moment() -> None:
    same = HourlyCeiling(PacingSettings(300, 60))
    assert same.requests_at(ns("12:00")) == 300
    assert same.allowed_between(0, 90 * SECOND) == 450
    assert same.done_at(450, 0) == 90 * SECOND
    assert same.is_ever_open


hours = st.builds(
    lambda start, minutes, requests: Hours(
        time(start // 60, start % 60),
        (MIDNIGHT + timedelta(minutes=start + minutes)).time(),
        requests,
    ),
    st.integers(0, 24 * 60 - 1),
    st.integers(1, 600),
    st.integers(0, 500),
)


@given(hours, st.sampled_from([1.0, 60.0, 3600.0]), st.integers(0, 86_400), st.floats(1, 5000))
def test_so_many_are_allowed_until_they_are_done(each, seconds, start, count) -> None:
    by_hour = ceiling(each, seconds=seconds)
    if not by_hour.is_ever_open:
        return
    begin = ns("00:00") + start * SECOND
    done = by_hour.done_at(count, begin)
    assert by_hour.allowed_between(begin, done) == pytest.approx(count, abs=1e-3)


@given(hours, st.lists(st.integers(0, 86_400), min_size=3, max_size=3))
def test_what_is_allowed_adds_up(each, moments) -> None:
    by_hour = ceiling(each)
    first, middle, last = (ns("00:00") + moment * SECOND for moment in sorted(moments))
    parts = by_hour.allowed_between(first, middle) + by_hour.allowed_between(middle, last)
    assert parts == pytest.approx(by_hour.allowed_between(first, last))


@given(st.lists(hours, max_size=3), st.sampled_from([BERLIN, None]))
def test_the_ledger_keeps_the_hours(found, zone) -> None:
    settings = PacingSettings(10, 60.0, tuple(found), zone if found else None)
    assert PacingSettings.from_record(10, 60.0, settings.hours_record()) == settings


@pytest.mark.parametrize("broken", ["{", "[]", "{}", '{"zone": "Nowhere/At", "hours": []}'])
def test_a_broken_record_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        PacingSettings.from_record(10, 60.0, broken)
