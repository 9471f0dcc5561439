"""Nights of mirrors whose exports are compared in a database, with faults and deaths."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mirror_nights import fine_runs, mirror_runs
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from whole_push import Death

from engine.errors import ExitStatus
from engine.source.sql.connection import Connection
from postgres_server import PostgresServer


@pytest.fixture(params=["duckdb", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Connection:
    """Return a connection to a database of the test's own."""
    if request.param == "duckdb":
        pytest.importorskip("duckdb")
        return Connection("warehouse", f"duckdb:{tmp_path}/plans.duckdb", tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    _clear(server)
    return Connection("warehouse", server.url, tmp_path)


def _clear(server: PostgresServer) -> None:
    server.execute("drop schema if exists cohortsync cascade")


@given(
    troubled=st.lists(mirror_runs, max_size=3), last=fine_runs, resends=st.sampled_from([0, 1, 3])
)
@settings(
    max_examples=max(settings().max_examples // 20, 5),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_after_a_fault_free_run_the_members_are_the_export(
    database: Connection,
    request: pytest.FixtureRequest,
    troubled: list[MirrorRun],
    last: MirrorRun,
    resends: int,
) -> None:
    with TemporaryDirectory() as name:
        if database.path is None:
            _clear(request.getfixturevalue("postgres"))
        else:
            database.path.unlink(missing_ok=True)
        cohort = Cohort(Path(name), resend_over_nights=resends, connection=database)
        for mirror_run in troubled:
            cohort.carry_out(mirror_run)
        ended = cohort.carry_out(last)
        assert ended.exit_status is ExitStatus.ACCEPTED
        assert cohort.members() == last.wanted


@pytest.fixture
def cohort(tmp_path: Path, database: Connection) -> Cohort:
    return Cohort(tmp_path / "cohort", connection=database)


def mirrored(cohort: Cohort, *nights: list[str]) -> None:
    for wanted in nights:
        assert cohort.carry_out(MirrorRun(frozenset(wanted), pause=SETTLE)).exit_status == 0
        assert cohort.members() == set(wanted)


def test_no_row_of_a_snapshot_is_on_this_machine(cohort: Cohort) -> None:
    mirrored(cohort, UIDS[:6], UIDS[2:8])
    assert [path.name for path in cohort.snapshots] == ["000001.json", "000002.json"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in cohort.snapshots)
    assert not any(UIDS[3] in path.read_text() for path in cohort.snapshots)


@pytest.mark.parametrize("point", ["before enter", "inside enter", "after enter"])
def test_a_death_when_the_database_has_moved_and_the_ledger_has_not(
    cohort: Cohort, point: str
) -> None:
    mirrored(cohort, UIDS[:6])
    death = Death(point)
    assert cohort.carry_out(MirrorRun(frozenset(UIDS[3:9]), pause=SETTLE, death=death)).died
    mirrored(cohort, UIDS[1:7], UIDS[2:8])


def test_a_plan_is_sent_in_parts_as_it_was_made(cohort: Cohort) -> None:
    mirrored(cohort, UIDS[:2])
    planned = cohort.commands.mirror(UIDS[:9], sends=False)
    assert planned.result is not None
    plan = planned.result.accounts.run
    assert cohort.commands.apply(plan, first=4).exit_status is ExitStatus.ACCEPTED
    assert len(cohort.members()) == 6
    assert cohort.commands.apply(plan).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[:9])
