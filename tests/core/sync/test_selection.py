from datetime import datetime, time
from pathlib import Path
from typing import Any

import pytest

from engine.config.cohort_settings import CohortSettings
from engine.errors import UsageError
from engine.sync.request import SyncRequest
from engine.sync.selection import failed_keys, in_order, select

EVENING = datetime(2026, 11, 27, 22, 0)  # noqa: DTZ001 - a local time


def cohort(key, **further: Any) -> CohortSettings:  # noqa: ANN401 - fields
    return CohortSettings(key=key, id=key, name=key, file=Path("config.toml"), **further)


def ordered(*cohorts: CohortSettings) -> list[str]:
    return [each.key for each in in_order(cohorts, EVENING)]


def selected(cohorts, failed=(), **request: Any) -> list[str]:  # noqa: ANN401 - fields
    by_key = {each.key: each for each in cohorts}
    return [each.key for each in select(by_key, SyncRequest(**request), failed)]


def test_priority_comes_first_then_the_deadline_that_comes_first() -> None:
    assert ordered(
        cohort("none"),
        cohort("morning", deadline=time(6)),
        cohort("passed", deadline=time(21, 59)),
        cohort("tonight", deadline=time(23)),
        cohort("last", priority=-1, deadline=time(22, 30)),
        cohort("first", priority=3),
    ) == ["first", "tonight", "morning", "passed", "none", "last"]


def test_equal_cohorts_keep_their_order() -> None:
    assert ordered(cohort("b"), cohort("a"), cohort("c")) == ["b", "a", "c"]


def test_all_that_are_enabled_unless_some_are_named() -> None:
    cohorts = [cohort("a"), cohort("b", enabled=False), cohort("c")]
    assert selected(cohorts) == ["a", "c"]
    assert selected(cohorts, keys=["b"]) == ["b"]
    assert selected(cohorts, keys=["c", "a"]) == ["a", "c"]


def test_tags_and_failures_narrow_the_selection() -> None:
    cohorts = [cohort("a", tags=("x", "y")), cohort("b", tags=("y",)), cohort("c")]
    assert selected(cohorts, tags=["y"]) == ["a", "b"]
    assert selected(cohorts, tags=["x", "y"]) == ["a", "b"]
    assert selected(cohorts, tags=["y"], only_failed=True, failed=["b", "c"]) == ["b"]
    assert selected(cohorts, only_failed=True) == []


def test_names_that_no_cohort_has_are_mistakes() -> None:
    cohorts = [cohort("newsletter", tags=("crm",)), cohort("vip")]
    with pytest.raises(UsageError) as error:
        selected(cohorts, keys=["newsleter"])
    assert "did you mean 'newsletter'?" in (error.value.hint or "")
    with pytest.raises(UsageError, match="no cohort has the tag 'crn'"):
        selected(cohorts, tags=["crn"])
    with pytest.raises(UsageError, match="no cohort is selected"):
        selected([cohort("a", enabled=False)])
    with pytest.raises(UsageError, match="no cohort 'a' is configured"):
        selected([], keys=["a"])


def test_a_cohort_that_was_in_no_sync_counts_as_failed() -> None:
    last = {"a": 0, "b": 1, "c": None}
    assert failed_keys("abcd", last) == ["b", "c", "d"]
