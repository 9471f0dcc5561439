"""The preflight against the emulator, which knows nothing of it."""

from pathlib import Path

import pytest

from engine.check import exit_status, run_checks
from engine.emulator import EmulatorSettings, running
from engine.errors import ExitStatus

SHIPPED = Path(__file__).parents[2] / "config.toml"


@pytest.mark.parametrize(
    ("key", "code"), [("demo-key", ExitStatus.ACCEPTED), ("another-key", ExitStatus.REFUSED)]
)
async def test_the_emulator_tells_a_good_key_from_a_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, code: ExitStatus
) -> None:
    monkeypatch.delenv("MOENGAGE_WORKSPACE_ID", raising=False)
    monkeypatch.setenv("MOENGAGE_API_KEY", key)
    async with running(EmulatorSettings(port=0)) as emulator:
        checks = run_checks(SHIPPED, endpoint=emulator.url, state=tmp_path, live=True)
        findings = [finding async for finding in checks]
    assert findings[-1].name == "key"
    assert findings[-1].exit_status is exit_status(findings) is code
