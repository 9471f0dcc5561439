"""The preflight against the emulator, which knows nothing of it."""

import asyncio
from pathlib import Path

import pytest

from engine import Engine
from engine.delivery.stop import StopSwitch
from engine.emulator import EmulatorSettings, running
from engine.emulator.limiters import LimitSettings
from engine.errors import ExitStatus
from engine.ledger.locks import sole_writer
from engine.preflight.finding import CheckResult, Finding, FindingStatus
from engine.runs.arguments import no_note
from engine.runs.shared_ledger import LockWait
from engine.storage.paths import ledger_folder

SHIPPED = Path(__file__).parents[3] / "config.toml"


@pytest.mark.parametrize(
    ("key", "code"), [("demo-key", ExitStatus.ACCEPTED), ("another-key", ExitStatus.REFUSED)]
)
async def test_the_emulator_shows_a_good_key_from_a_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, code: ExitStatus
) -> None:
    monkeypatch.delenv("MOENGAGE_WORKSPACE_ID", raising=False)
    monkeypatch.setenv("MOENGAGE_API_KEY", key)
    async with running(EmulatorSettings(port=0)) as emulator:
        opening = Engine.open(SHIPPED, endpoint=emulator.url, state=tmp_path, lazy=True)
        async with opening as engine:
            findings = (await engine.check(live=True)).findings
    assert findings[-1].name == "key"
    assert findings[-1].exit_status is CheckResult(tuple(findings)).exit_status is code


async def test_live_checks_keep_to_the_ceiling_and_wait_for_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOENGAGE_WORKSPACE_ID", raising=False)
    monkeypatch.setenv("MOENGAGE_API_KEY", "demo-key")
    limits = LimitSettings(requests=2, per_seconds=1)
    async with running(EmulatorSettings(port=0, limits=limits)) as emulator:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[workspace]\nid = "DEMO"\nendpoint = "{emulator.url}"\n'
            "[limits]\nrequests = 2\nper_seconds = 1\n"
        )

        async def key() -> Finding:
            async with Engine.open(config, lazy=True) as engine:
                return (await engine.check(live=True)).findings[-1]

        for _ in range(5):
            assert (await key()).verdict is FindingStatus.OK
        report = emulator.emulator.report()
        async with sole_writer(ledger_folder(tmp_path / "state", emulator.url, "DEMO")):
            held = await key()
    assert held.exit_status is ExitStatus.INCOMPLETE
    assert "is in use by process" in held.detail
    assert report["requests"]["by_status"] == {"400": 5}


async def test_a_live_check_shares_the_right_to_send_with_the_runs_of_its_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOENGAGE_WORKSPACE_ID", raising=False)
    monkeypatch.setenv("MOENGAGE_API_KEY", "demo-key")
    async with (
        running(EmulatorSettings(port=0)) as emulator,
        Engine.open(SHIPPED, endpoint=emulator.url, state=tmp_path) as engine,
    ):
        waiting = LockWait(0.0, StopSwitch(), no_note)
        async with engine._session(engine.config).using_ledger(waiting):
            await engine._session(engine.config).hold_sending(waiting)
            results = await asyncio.gather(*(engine.check(live=True) for _ in range(2)))
            engine._session(engine.config).release_sending()
        assert emulator.emulator.report()["requests"]["by_status"] == {"400": 2}
    assert [each.exit_status for each in results] == [ExitStatus.ACCEPTED] * 2
