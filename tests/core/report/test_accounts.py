"""The arithmetic of accounts: when they balance, and what exit status follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ExitStatus
from engine.report.accounts import (
    Accounts,
    Ceiling,
    CeilingSpending,
    Requests,
    RowCounts,
    Standing,
    exit_status_of,
    timestamp,
)
from engine.report.accounts_from_ledger import target_label
from engine.report.settings import AccountingSettings

counts = st.integers(0, 10**6)


def accounts_of(rows: RowCounts, uids: Standing, batches: Standing) -> Accounts:
    return Accounts(
        run="r",
        status="finished",
        exit_status=0,
        reason=None,
        target="t",
        workspace="w",
        partner="p",
        cohort_id="c",
        cohort_name="n",
        action="add",
        ceiling=Ceiling(300, 60),
        source_complete=True,
        rows=rows,
        uids=uids,
        batches=batches,
        requests=Requests(),
        bytes_sent=0,
        payload_fill=1.0,
        ceiling_use=1.0,
        ceiling_spending=CeilingSpending(),
        ceiling_found=None,
        margin_seconds=0.0,
        started_at="",
        finished_at=None,
        elapsed_seconds=0.0,
    )


def standing(*parts: int) -> Standing:
    return Standing(sum(parts), *parts)


standings = st.builds(standing, counts, counts, counts, counts)


@given(standings, standings, st.tuples(counts, counts, counts))
def test_accounts_balance_when_every_row_and_uid_is_somewhere(uids, batches, skipped) -> None:
    rows = RowCounts(sum(skipped) + uids.planned, *skipped)
    assert accounts_of(rows, uids, batches).imbalance is None


@given(
    standings,
    standings,
    st.sampled_from(["planned", "accepted", "rejected", "unconfirmed", "pending"]),
    st.sampled_from(["uids", "batches"]),
    st.integers(1, 10),
)
def test_a_count_that_is_off_is_noticed(uids, batches, part, which, by) -> None:
    parts = {"uids": uids, "batches": batches}
    fields = {name: getattr(parts[which], name) for name in Standing.__dataclass_fields__}
    parts[which] = Standing(**(fields | {part: fields[part] + by}))
    imbalance = accounts_of(RowCounts(uids.planned), **parts).imbalance
    assert imbalance is not None


@pytest.mark.parametrize(
    "rows",
    [
        RowCounts(9, 1, 1),
        RowCounts(11, 1, 1),
        RowCounts(10, 0, 1),
        RowCounts(10, 1, 0),
        RowCounts(10, 1, 1, 1),
    ],
)
def test_rows_that_do_not_add_up_are_noticed(rows) -> None:
    imbalance = accounts_of(rows, standing(8, 0, 0, 0), standing(1, 0, 0, 0)).imbalance
    assert imbalance is not None
    assert f"{rows.read} rows read" in imbalance


@pytest.mark.parametrize(
    ("uids", "invalid", "tolerated", "status"),
    [
        (standing(10, 0, 0, 0), 0, 0, ExitStatus.ACCEPTED),
        (standing(10, 0, 0, 0), 1, 0, ExitStatus.PARTIAL),
        (standing(9, 1, 0, 0), 0, 0, ExitStatus.PARTIAL),
        (standing(9, 1, 0, 0), 1, 1, ExitStatus.PARTIAL),
        (standing(9, 1, 0, 0), 1, 2, ExitStatus.ACCEPTED),
        (standing(9, 1, 0, 0), 0, 0.1, ExitStatus.ACCEPTED),
        (standing(8, 2, 0, 0), 0, 0.1, ExitStatus.PARTIAL),
        (standing(0, 10, 0, 0), 0, 1.0, ExitStatus.ACCEPTED),
        (standing(9, 0, 1, 0), 0, 10, ExitStatus.INCOMPLETE),
        (standing(9, 0, 0, 1), 0, 10, ExitStatus.INCOMPLETE),
        (standing(0, 9, 0, 1), 9, 0, ExitStatus.INCOMPLETE),
        (standing(0, 0, 0, 0), 0, 0.0, ExitStatus.ACCEPTED),
    ],
)
def test_exit_statuses(uids, invalid, tolerated, status) -> None:
    rows = RowCounts(uids.planned + invalid, 0, invalid)
    assert exit_status_of(uids, rows, AccountingSettings(tolerated)) is status


@given(st.integers(0, 100), st.integers(1, 100))
def test_a_share_is_met_exactly(lost, rows) -> None:
    settings = AccountingSettings(min(lost, rows) / rows)
    assert settings.tolerates(min(lost, rows), rows)
    assert min(lost, rows) == rows or not settings.tolerates(min(lost, rows) + 1, rows)


def test_the_document_has_every_documented_key() -> None:
    document = accounts_of(RowCounts(), Standing(), Standing()).to_dict()
    assert set(document) >= {
        *("run", "status", "exit_status", "target", "workspace", "partner", "cohort_id"),
        *("action", "source_complete", "rows", "uids", "batches", "requests", "bytes_sent"),
        *("payload_fill", "ceiling_use", "started_at", "finished_at", "elapsed_seconds"),
        "schema_version",
    }
    assert set(document["rows"]) == {"read", "blank", "invalid", "excluded"}
    states = {"planned", "accepted", "rejected", "unconfirmed", "pending"}
    assert set(document["uids"]) == set(document["batches"]) == states
    assert set(document["requests"]) == {"sent", "accepted", "throttled", "retried", "split"}


def test_times_and_targets_are_shown_in_full() -> None:
    assert timestamp(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123+00:00"
    assert target_label("https://api-01.moengage.com") == "api-01.moengage.com"
    assert target_label("http://127.0.0.1:8765") == "EMULATOR 127.0.0.1:8765"
