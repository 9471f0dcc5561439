"""`cohortsync support`: what is sent to the vendor holds no uid, no credential, no file name."""

import json
import re
from collections.abc import Callable

from clean_room import API_KEY, WORKSPACE
from emulated_api import Emulator
from nightly import CommandLine

UIDS = ["poison", "ada@example.com", *(f"customer-{number}" for number in range(400))]


def test_the_report_on_a_run(cli: CommandLine, emulate: Callable[..., Emulator]) -> None:
    cli.url = emulate("--poison", "poison", "--fault", "500=0.3:0.5", "--seed", "1").url
    settings = {"uid_pattern": ".*", "max_removals": 0.2}
    cli.configure(guards=settings, plan={"spill_dir": "scratch"})
    (cli.folder / "customers.csv").write_text("\n".join(["uid", *UIDS]) + "\n")
    assert cli.push("customers.csv", "--column", "uid").status == 1
    text, document = (cli.run("support", "latest", *form) for form in ((), ("--json",)))
    assert (text.status, text.stderr, document.stderr) == (0, "", "")
    for found in (text.stdout, document.stdout):
        for uid in UIDS:
            assert not re.search(rf"\b{re.escape(uid)}\b", found), uid
        for private in (API_KEY, "customers.csv", "scratch", str(cli.folder)):
            assert private not in found
        assert WORKSPACE in found

    report = json.loads(document.stdout)
    sent = sum(group["requests"] for group in report["answers"])
    assert sent == report["requests"]["sent"]
    assert report["answers"][-1]["outcome"] == "accepted"
    rejected = [group for group in report["answers"] if group["http_status"] == 400]
    shown = json.loads(cli.run("show", "latest", "--json").stdout)["attempts"]
    ids = {attempt["request_id"] for attempt in shown if attempt["http_status"] == 400}
    assert {each for group in rejected for each in group["request_ids"]} == ids
    assert report["settings"]["guards"]["uid_pattern"] == "***"
    assert report["settings"]["guards"]["max_removals"] == 0.2
    assert report["settings"]["plan"]["spill_dir"] == "***"
    assert report["settings"]["limits"]["payload_bytes"] == 2000
    assert "aiohttp" in report["versions"]
    assert all(each in text.stdout for each in ids)


def test_a_broken_configuration_does_not_prevent_the_report(cli: CommandLine) -> None:
    cli.write("few.txt", 3)
    assert cli.push("few.txt").status == 0
    (cli.folder / "config.toml").write_text("[workspace]\nendpoint = 'secret-value'\n")
    report = json.loads(cli.run("support", "latest", "--json").stdout)
    assert report["settings"] is None
    assert "secret-value" not in cli.run("support", "latest").stdout
