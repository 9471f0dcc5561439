"""Hours with a ceiling of their own, and mistakes in them."""

from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from engine.config.loading import load_project
from engine.errors import ConfigError
from engine.pacing.settings import Hours, PacingSettings

WORKSPACES = """
[workspaces.eu]
id = "E"
data_center = "02"
[workspaces.us]
id = "U"
data_center = "01"
"""


def entry(start: str, until: str, requests: int, table: str = "limits") -> str:
    return f'[[{table}.hours]]\nfrom = "{start}"\nuntil = "{until}"\nrequests = {requests}\n'


def pacing_of(folder: Path, text: str) -> dict[str, PacingSettings]:
    path = folder / "config.toml"
    path.write_text(WORKSPACES + text)
    project = load_project(path, need_credentials=False, environ={})
    return {name: config.pacing for name, config in project.workspaces.items()}


def test_the_hours_of_a_workspace_replace_the_common_ones(tmp_path: Path) -> None:
    text = entry("08:00", "20:00", 100) + entry("23:00", "01:00", 0)
    text += "[workspaces.us.limits]\nrequests = 200\n"
    text += entry("12:00", "13:00", 50, "workspaces.us.limits")
    found = pacing_of(tmp_path, text + '[sync]\ntime_zone = "Europe/Berlin"\n')
    common = (Hours(time(8), time(20), 100), Hours(time(23), time(1), 0))
    zone = ZoneInfo("Europe/Berlin")
    assert found["eu"] == PacingSettings(300, 60.0, common, zone)
    assert found["us"] == PacingSettings(200, 60.0, (Hours(time(12), time(13), 50),), zone)
    assert (found["eu"].most, found["us"].most) == (300, 200)


def test_a_workspace_may_have_no_hours(tmp_path: Path) -> None:
    text = entry("08:00", "20:00", 1000) + "[workspaces.us.limits]\nhours = []\n"
    found = pacing_of(tmp_path, text)
    assert found["us"].hours == ()
    assert found["eu"].most == 1000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[limits]\nhours = 3", "`limits.hours` should be tables `[[limits.hours]]`, not 3"),
        ("[limits]\nhours = [3]", "`limits.hours` should be tables `[[limits.hours]]`, not [3]"),
        ("[limits.hours]\nfrom = 1", "`limits.hours` should be tables `[[limits.hours]]`"),
        ("[[limits.hours]]", "`limits.hours[1].from` is needed"),
        ("[[limits.hours]]", "`limits.hours[1].requests` is needed"),
        (entry("8:00", "20:00", 1), "`limits.hours[1].from` should be a time of day"),
        (entry("08:00", "24:00", 1), "`limits.hours[1].until` should be a time of day"),
        (entry("08:00", "20:00", -1), "`limits.hours[1].requests` should be a whole number from 0"),
        (entry("08:00", "08:00", 1), "`limits.hours[1].until` should differ from `from`"),
        (
            entry("08:00", "20:00", 1) + "request = 1",
            "unknown key `limits.hours[1].request`; did you mean `limits.hours[1].requests`?",
        ),
        (
            entry("08:00", "20:00", 1) + entry("19:59", "21:00", 2),
            "`limits.hours[2]` overlaps the hours from 08:00",
        ),
        (
            entry("22:00", "06:00", 1) + entry("05:00", "07:00", 2),
            "`limits.hours[2]` overlaps the hours from 22:00",
        ),
        (
            entry("00:00", "12:00", 0) + entry("12:00", "00:00", 0),
            "`limits.hours` leave no time to send at",
        ),
        (
            "[limits]\nper_seconds = 43200.0\n" + entry("00:00", "01:00", 0),
            "`limits.hours` leave no time to send at",
        ),
        (
            entry("00:00", "12:00", 0, "workspaces.us.limits")
            + entry("${NO}", "13:00", 0, "workspaces.us.limits"),
            "`workspaces.us.limits.hours[2].from` names the variable `NO`, which is not set",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pacing_of(tmp_path, text)
    lines = caught.value.message.splitlines()
    assert len([line for line in lines if says in line]) == 1, lines
    assert all(line.startswith(str(tmp_path / "config.toml")) for line in lines)


def test_hours_that_follow_each_other_do_not_overlap(tmp_path: Path) -> None:
    text = entry("08:00", "20:00", 1) + entry("20:00", "08:00", 2)
    assert len(pacing_of(tmp_path, text)["eu"].hours) == 2
