"""`cohortsync demo` and `check`, as someone tries them first."""

import re

from emulated_api import Emulator
from nightly import Night


def test_the_demo_proves_itself(night: Night) -> None:
    ended = night.spawn("demo", "--uids", "20000", "--requests", "300", "--per-seconds", "2")
    assert ended.status == 0, ended.stderr
    assert "20,000 members" in ended.stdout
    assert "0 missing, 0 extra" in ended.stdout
    assert "breaches of the contract: none" in ended.stdout
    assert re.search(r"target=\"EMULATOR 127\.0\.0\.1:\d+\"", ended.stderr)


def test_the_preflight_says_what_is_in_order(night: Night, api: Emulator) -> None:
    ended = night.run("check", "--live", "--json")
    assert ended.status == 0, ended.stdout
    verdicts = {each["name"]: each["status"] for each in ended.document["findings"]}
    assert verdicts["key"] == verdicts["state"] == verdicts["tcp"] == "ok"
    assert api.received() == 1
    assert not (night.folder / "state").exists()
