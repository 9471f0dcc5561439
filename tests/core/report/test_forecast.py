from datetime import UTC, datetime

import pytest

from engine.report.forecast import CohortForecast, forecast_sentence

NOW = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)


def at(text: str) -> int:
    return round(datetime.fromisoformat(f"2026-11-{text}+00:00").timestamp()) * 1_000_000_000


def forecast(requests, done, deadline=None, share=1.0, *, is_exact=True) -> CohortForecast:
    return CohortForecast(requests, is_exact, at(done), deadline and at(deadline), share)


@pytest.mark.parametrize(
    ("forecasts", "sentence"),
    [
        ([], "nothing to send"),
        ([("vip", forecast(1, "27T04:12"))], "1 request, done 04:12"),
        (
            [("vip", forecast(700, "27T04:12")), ("b", forecast(5, "27T02:00", is_exact=False))],
            "about 705 requests, done 04:12",
        ),
        # Rounded up: nothing is promised before the time that was computed.
        ([("vip", forecast(1, "27T04:12:01"))], "1 request, done 04:13"),
        (
            [("vip", forecast(9, "27T06:20:01", "27T06:00", 0.5))],
            "9 requests; misses 06:00 by 21 min: vip stops at 50 %",
        ),
        ([("vip", forecast(90_000, "28T04:12"))], "90,000 requests, done 28 Nov 04:12"),
        (
            [
                ("vip", forecast(1_000, "27T02:00", "27T06:00")),
                ("old", forecast(1_000, "27T05:00", "27T06:00")),
                ("new", forecast(50_000, "27T08:40", "27T06:00", 0.6199)),
            ],
            "52,000 requests; misses 06:00 by 2 h 40 min: vip and old finish, new stops at 61 %",
        ),
        (
            [
                ("vip", forecast(9, "27T06:01", "27T06:00", 0.99)),
                ("b", forecast(9, "27T06:20", "27T06:00", 0.0)),
            ],
            "18 requests; misses 06:00 by 20 min: vip stops at 99 %, b does not begin",
        ),
        (
            [("a", forecast(9, "27T02:00")), ("b", forecast(9, "27T06:20", "27T06:00", 0.5))],
            "18 requests; misses 06:00 by 20 min: a finishes, b stops at 50 %",
        ),
    ],
)
def test_the_sentence(forecasts, sentence) -> None:
    assert forecast_sentence(forecasts, UTC, round(NOW.timestamp()) * 10**9) == sentence


def test_a_forecast_is_rounded_up_in_the_document_too() -> None:
    found = CohortForecast(1, is_exact=True, done_utc_ns=1_000_000_000_000_000_001)
    assert found.to_dict()["done_at"] == "2001-09-09T01:46:40.001+00:00"
