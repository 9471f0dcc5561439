"""The counts of a period: by SQL, without a scan of all attempts, and without uids."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from large_ledger import ENDPOINT, make_large_ledger, scanned, watching

from engine.ledger.sqlite.reader import LedgerReader
from engine.report.period_reading import report_on
from engine.source.block import BLANK, EXCLUDED, HEADER_AGAIN
from engine.storage.paths import LEDGER_NAME

RUNS, EACH = 6, 2000
SECOND = 1_000_000_000
COUNTING = ("sent AS (", "min(sent_utc_ns)", "FROM rejected", "FROM skipped")
"""Parts of the queries that read a whole run."""
LAST_START = (17_000_000 + RUNS) * 100 * SECOND


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_large_ledger(tmp_path, runs=RUNS, each=EACH)


def test_requests_are_counted_by_interval_and_answer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute(
            "UPDATE attempt SET outcome = 'throttled', http_status = 429, "
            "ended_utc_ns = sent_utc_ns + 1234567890 WHERE run = ? AND batch % 10 = 0",
            (RUNS,),
        )
    report = report_on(path.parents[2], LAST_START, LAST_START + 10 * SECOND)
    [workspace] = report.workspaces
    assert workspace.total.answers == {"accepted": EACH - EACH // 10, "throttled": EACH // 10}
    assert workspace.status_counts == {200: EACH - EACH // 10, 429: EACH // 10}
    assert workspace.total.latencies == {0: EACH - EACH // 10, 1200: EACH // 10}
    assert [run.run for run in report.runs] == [f"20260101-{RUNS:06}-abcd"]
    # 5 a second in 0.4 s, and the first.
    assert workspace.spending.allowed == pytest.approx(3, abs=0.01)
    # Sent within 0.4 s; those before the period are left out.
    assert len(workspace.intervals) == 1
    later = report_on(path.parents[2], LAST_START + SECOND // 5, LAST_START + 10 * SECOND)
    assert later.workspaces[0].total.sent == EACH // 2 + 1


def test_a_short_period_reads_no_more_than_its_runs(path: Path) -> None:
    report_on(path.parents[2], 0, LAST_START + SECOND)  # Connections and caches are warm.
    with watching() as nothing:
        report_on(path.parents[2], 2 * LAST_START, 2 * LAST_START)
    with watching() as whole:
        report_on(path.parents[2], 0, LAST_START + SECOND)
    with watching() as one:
        report_on(path.parents[2], LAST_START, LAST_START + SECOND)
    # Nothing is stored here of what the runs add up to, so that is counted, too.
    assert one.steps - nothing.steps < (whole.steps - nothing.steps) / 4
    for statement in one.statements:
        if any(part in statement for part in COUNTING):
            assert scanned(path, statement) == [], statement


def test_reasons_quote_no_uid(path: Path) -> None:
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute("UPDATE batch SET state = 'rejected', reason = '400: uid' WHERE batch <= 3")
        ledger.execute(
            "INSERT INTO rejected SELECT run, batch, 'f', batch, 'secret-' || batch, "
            "'400: uid secret-' || batch || ' is bad', 'id-' || batch FROM batch WHERE batch <= 3"
        )
        ledger.execute("INSERT INTO skipped SELECT run, 9, 'f', 9, 4, 'not UTF-8' FROM run")
        for place, reason in enumerate((BLANK, HEADER_AGAIN, EXCLUDED)):
            ledger.execute(
                "INSERT INTO skipped SELECT run, 8, 'f', ?, 2, ? FROM run", (place, reason)
            )
    report = report_on(path.parents[2], 0, LAST_START + SECOND)
    assert [(each.kind, each.reason, each.rows) for each in report.rejects] == [
        ("invalid", "not UTF-8", 4 * RUNS),
        ("rejected", "400: uid", 3 * RUNS),
    ]
    assert report.rejects[1].request_ids == ("id-1", "id-3")
    assert "secret" not in str(report.to_dict())
    with_uids = report_on(path.parents[2], 0, LAST_START + SECOND, with_uids=True)
    assert with_uids.rejected_uids is not None
    assert {each.record.uid for each in with_uids.rejected_uids} == {
        *("secret-1", "secret-2", "secret-3")
    }


def test_a_run_that_died_before_the_period_is_left_out(path: Path) -> None:
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute(
            "UPDATE run SET status = 'running', exit_status = NULL, finished_utc_ns = NULL"
        )
    report = report_on(path.parents[2], LAST_START, LAST_START + 10 * SECOND)
    [cohort] = report.cohorts
    assert (cohort.status, cohort.exit_status, cohort.level) == ("incomplete", 75, "attention")
    assert cohort.next_step is not None
    assert cohort.next_step.command.startswith("cohortsync resume ")


def test_the_last_run_of_a_cohort_counts(path: Path) -> None:
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute("UPDATE run SET exit_status = 75, status = 'incomplete' WHERE run = 1")
    # Runs 1 and 6 are of the same cohort.
    report = report_on(path.parents[2], 0, LAST_START + SECOND)
    assert [each.exit_status for each in report.cohorts] == [0] * 5
    assert len(report.runs) == RUNS


def test_members_are_those_of_each_snapshot(path: Path) -> None:
    with closing(sqlite3.connect(path)) as ledger, ledger:
        for number, shadow in ((1, 0), (2, 0), (3, 1)):
            ledger.execute(
                "INSERT INTO generation VALUES ('partner', 'C1', ?, ?, NULL, NULL, x'00', ?, 0, 0, "
                "'mirror', '', 0, ?, 0, '[]')",
                (shadow, number, number * 100, number),
            )
    with LedgerReader.open(path) as ledger:
        found = ledger.period.members_since(LAST_START)
        assert [(each.cohort_name, each.members) for each in found] == [("N", 200)]
        assert [each.members for each in ledger.period.members_since(1)] == [100, 200]
    assert path.name == LEDGER_NAME
    assert ENDPOINT
