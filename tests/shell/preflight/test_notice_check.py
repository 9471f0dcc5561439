"""What the preflight says of notices, pages, markers and commands, before a sync needs them."""

from pathlib import Path

import pytest

from engine.config.loading import load_project
from engine.errors import ExitStatus
from engine.preflight.finding import Finding, FindingStatus
from engine.preflight.notice_check import check_notices

WORKSPACE = '[workspace]\nid = "W"\nendpoint = "http://127.0.0.1:9"\n'
COHORT = '[cohorts.vip]\nname = "VIP"\nsource = "vip.csv"\n'
OK, NOTE, FAILED = FindingStatus.OK, FindingStatus.NOTE, FindingStatus.FAILED


async def check(folder: Path, text: str) -> list[Finding]:
    file = folder / "config.toml"
    file.write_text(WORKSPACE + text, encoding="utf-8")
    project = load_project(file, need_credentials=False, environ={})
    return [finding async for finding in check_notices(project, ["default"])]


async def test_without_notices_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert await check(tmp_path, COHORT) == []


async def test_a_sound_setup_has_one_finding_of_each_kind(tmp_path: Path) -> None:
    program = tmp_path / "done.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    found = await check(
        tmp_path,
        '[notify]\nurls = ["json://127.0.0.1:9/S3CRET"]\n'
        '[pings]\nurl = "http://127.0.0.1:9/S3CRET"\n'
        '[metrics]\ntextfile = "m.prom"\npush_url = "http://127.0.0.1:9"\n'
        '[report]\nhtml = "page.html"\n'
        '[sync]\nafter = ["true"]\n'
        f'{COHORT}marker = "a/b/vip-{{date}}"\nafter = ["./done.sh"]\n',
    )
    names = ["notify", "pings", "metrics", "metrics", "report", "after", "marker"]
    assert [(each.name, each.verdict) for each in found] == [(name, OK) for name in names]
    assert "S3CRET" not in f"{found}"
    assert not (tmp_path / "a").exists()


NO_FOLDER = "there is no folder "
PROBLEMS = {
    "a URL that no service takes": ('[notify]\nurls = ["nowhere"]\n', FAILED, "no service takes"),
    "a file of URLs that is not there": ('[notify]\nurls = ["file:u"]\n', FAILED, "cannot be read"),
    "a cohort without an owner": (
        '[notify.owners]\ncrm = "json://127.0.0.1:9"\n',
        NOTE,
        "nobody is told of vip",
    ),
    "a ping over http": ('[pings]\nurl = "http://example.com"\n', FAILED, "https://"),
    "metrics without a folder": ('[metrics]\ntextfile = "no/m.prom"\n', NOTE, NO_FOLDER),
    "a page without a folder": ('[report]\nhtml = "no/page.html"\n', NOTE, NO_FOLDER),
    "a page in a folder's place": ('[report]\nhtml = "folder"\n', NOTE, "is a folder"),
    "no such program": ('[sync]\nafter = ["no-such-program"]\n', FAILED, "on the PATH"),
    "no such file": ('[sync]\nafter = ["bin/done"]\n', FAILED, "there is no file"),
    "a file that is not executable": ('[sync]\nafter = ["./file"]\n', FAILED, "not executable"),
    "a marker below a file": (f'{COHORT}marker = "file/vip"\n', FAILED, NO_FOLDER),
}


@pytest.mark.parametrize("problem", PROBLEMS)
async def test_what_a_sync_would_fail_at_is_found(tmp_path: Path, problem: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    text, verdict, sentence = PROBLEMS[problem]
    [found] = await check(tmp_path, text if COHORT in text else text + COHORT)
    assert found.verdict is verdict
    assert sentence in found.detail
    usage = verdict is FAILED
    assert found.exit_status is (ExitStatus.USAGE if usage else ExitStatus.ACCEPTED)


async def test_a_missing_extra_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.notices.apprise_sender.find_spec", lambda _: None)
    [found] = await check(tmp_path, '[notify]\nurls = ["json://127.0.0.1:9"]\n')
    assert (found.name, found.verdict) == ("notify", FAILED)
    assert found.hint == "install the extra: pip install 'cohortsync[notify]'"
