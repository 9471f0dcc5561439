"""Statuses in words."""

from engine.model.status import CohortStatus, RunStatus
from engine.report.formats import STATUSES


def test_the_statuses_in_words_are_those_that_there_are() -> None:
    assert set(STATUSES) <= {*RunStatus, *CohortStatus, "not_ended"}
