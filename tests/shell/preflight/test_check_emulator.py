"""The preflight against the emulator, which knows nothing of it."""

from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.emulator import EmulatorSettings, running
from engine.emulator.limiters import LimitSettings
from engine.errors import ExitStatus
from engine.ledger.sqlite.ledger import sole_ledger
from engine.preflight.check import CheckResult, Finding, FindingStatus, run_checks
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
        checks = run_checks(SHIPPED, endpoint=emulator.url, state=tmp_path, live=True)
        findings = [finding async for finding in checks]
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
            return [finding async for finding in run_checks(config, live=True)][-1]

        for _ in range(5):
            assert (await key()).verdict is FindingStatus.OK
        report = emulator.emulator.report()
        async with sole_ledger(
            ledger_folder(tmp_path / "state", emulator.url, "DEMO"), SystemClock()
        ):
            held = await key()
    assert held.exit_status is ExitStatus.INCOMPLETE
    assert "is in use by process" in held.detail
    assert report["requests"]["by_status"] == {"400": 5}
