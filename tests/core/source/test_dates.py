"""Dates in the names of configured exports."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.source.dates import date_problem, expand_dates, has_dates, without_dates

DAY = date(2026, 3, 1)


@pytest.mark.parametrize(
    ("name", "expanded"),
    [
        ("exports/vip-{date}*.csv.gz", "exports/vip-2026-03-01*.csv.gz"),
        ("{yesterday}", "2026-02-28"),
        ("s3://b/{date:%Y/%m/%d}/[ab]?.csv", "s3://b/2026/03/01/[ab]?.csv"),
        ("{yesterday:%Y%m%d}-{date:%y%j}", "20260228-26060"),
        ("{date:%G-W%V-%u}", "2026-W09-7"),
        ("{date:100%%}", "100%"),
        ("{{date}}-{{a,b}}", "{date}-{a,b}"),
        ("https://host/a?day={date}", "https://host/a?day=2026-03-01"),
        ("100%.csv", "100%.csv"),
        ("", ""),
    ],
)
def test_a_name_with_dates(name: str, expanded: str) -> None:
    assert date_problem(name) is None
    assert expand_dates(name, DAY) == expanded
    assert has_dates(name) == ("2026" in expanded or name.startswith(("{y", "{date:")))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("{today}.csv", "{today} is not known, only {date}, {yesterday} are; "),
        ("{}.csv", "{} is not known"),
        ("{0}.csv", "{0} is not known"),
        ("{date.year}", "{date.year} is not known"),
        ("{date[0]}", "{date[0]} is not known"),
        ("{date!r}", "{date!r} is not known"),
        ("{a,b}.csv", "{a,b} is not known"),
        ("{date:%B}", "the format '%B' should have as directives only %Y, %m, "),
        ("{date:%-d}", "the format '%-d' should have"),
        ("{date:%}", "the format '%' should have"),
        ("{date:{date}}", "the format '{date}' should have"),
        ("{date", "expected '}' before end of string; '{{' and '}}' stand for a brace"),
        ("date}", "Single '}' encountered in format string; '{{' and '}}' stand for a brace"),
    ],
)
def test_a_name_with_a_mistake(name: str, problem: str) -> None:
    found = date_problem(name)
    assert found is not None
    assert found.startswith(problem)
    with pytest.raises(ValueError, match=r"brace|should have"):
        expand_dates(name, DAY)


@given(st.text())
def test_any_text_is_expanded_or_has_a_problem(name: str) -> None:
    if date_problem(name) is None:
        expand_dates(name, DAY)
    assert expand_dates(without_dates(name), DAY) == name
    assert not has_dates(without_dates(name))
