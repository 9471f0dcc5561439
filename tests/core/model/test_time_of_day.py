import time as clock
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.model.time_of_day import local_time, next_moment, parse_time_of_day

BERLIN = ZoneInfo("Europe/Berlin")


def utc_ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2026-11-27T01:00+01:00", "06:00", "2026-11-27T06:00+01:00"),
        ("2026-11-27T06:00+01:00", "06:00", "2026-11-28T06:00+01:00"),
        ("2026-11-27T23:30+01:00", "06:00", "2026-11-28T06:00+01:00"),
        # The night in which the clocks go forward has no 02:30.
        ("2026-03-29T00:10+01:00", "02:30", "2026-03-29T03:30+02:00"),
        ("2026-03-28T23:00+01:00", "06:00", "2026-03-29T06:00+02:00"),
        # The night in which they go back has two.
        ("2026-10-25T00:10+02:00", "02:30", "2026-10-25T02:30+02:00"),
        ("2026-10-25T02:30+02:00", "02:30", "2026-10-25T02:30+01:00"),
        ("2026-10-25T02:30+01:00", "02:30", "2026-10-26T02:30+01:00"),
        ("2026-10-24T23:00+02:00", "06:00", "2026-10-25T06:00+01:00"),
    ],
)
def test_the_next_moment_with_a_time_of_day(now, text, expected) -> None:
    assert next_moment(parse_time_of_day(text), utc_ns(now), BERLIN) == utc_ns(expected)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
    st.integers(0, 23),
    st.integers(0, 59),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
)
def test_it_is_at_most_a_day_and_a_change_of_clocks_away(now, hour, minute, zone) -> None:
    start = round(now.timestamp()) * 1_000_000_000
    found = next_moment(time(hour, minute), start, ZoneInfo(zone))
    assert 0 < found - start <= timedelta(hours=26).total_seconds() * 1e9
    local = datetime.fromtimestamp(found / 1e9, ZoneInfo(zone))
    is_skipped = (local.hour, local.minute) != (hour, minute)
    if is_skipped:  # Only if the clocks change on that day.
        day = local.replace(hour=0, minute=0)
        assert day.utcoffset() != (day + timedelta(days=1)).utcoffset()


@pytest.mark.parametrize("text", ["", "24:00", "6", "06:60", "6:0", "06:00:00", "noon", "-1:00"])
def test_other_texts_are_refused(text) -> None:
    with pytest.raises(ValueError, match="00:00 to 23:59"):
        parse_time_of_day(text)


def test_without_a_zone_it_is_that_of_the_system(monkeypatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    clock.tzset()
    try:
        for now, expected in [
            ("2026-03-29T00:10+01:00", "2026-03-29T03:30+02:00"),
            ("2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"),
            ("2026-11-27T01:00+01:00", "2026-11-27T02:30+01:00"),
        ]:
            assert next_moment(time(2, 30), utc_ns(now), None) == utc_ns(expected)
    finally:
        monkeypatch.undo()
        clock.tzset()


def test_the_date_is_that_of_the_time_zone() -> None:
    moment = round(datetime(2026, 11, 27, 20, tzinfo=UTC).timestamp() * 1e9)
    dates = {
        name: str(local_time(moment, ZoneInfo(name)).date())
        for name in ("Asia/Kolkata", "America/Lima")
    }
    assert dates == {"Asia/Kolkata": "2026-11-28", "America/Lima": "2026-11-27"}
    assert str(local_time(moment, UTC).date()) == "2026-11-27"
    assert local_time(moment).date() == datetime.fromtimestamp(moment / 1e9).astimezone().date()
