"""Workspaces, cohorts, included files and variables as they are read."""

import dataclasses
from collections.abc import Callable
from datetime import date, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Engine
from engine.config.loading import Project, load, load_project
from engine.config.variables import substitute
from engine.errors import ConfigError
from engine.model.cohort import Cohort
from engine.preflight.check import check_settings
from engine.source.dates import expand_dates

WORKSPACE = '[workspace]\nid = "DEMO"\nendpoint = "http://127.0.0.1:9"\n'
TWO = (
    '[workspaces.eu]\nid = "E"\nendpoint = "http://127.0.0.1:9"\napi_key_file = "eu.key"\n'
    '[workspaces.us-1]\npartner = "other"\ndata_center = "01"\n'
    "[workspaces.us-1.limits]\nrequests = 100\n"
)
US = {"MOENGAGE_WORKSPACE_ID_US_1": "U", "MOENGAGE_API_KEY_US_1": "us-key"}
VIP = '[cohorts.vip]\nname = "VIP"\nsource = "vip.csv"\n'

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_files(main: str, **others: str) -> Path:
        for name, text in {"config": main, **others}.items():
            path = tmp_path / f"{name.replace('__', '/')}.toml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / "config.toml"

    return write_files


def project_of(path: Path, **environ: str) -> Project:
    return load_project(path, need_credentials=False, environ=environ)


# Cohorts


def test_a_cohort_has_the_values_of_its_table(write: Write, tmp_path: Path) -> None:
    path = write(
        f"{WORKSPACE}[guards]\nmax_removals = 0.3\nmax_additions = 7\n"
        '[cohorts.vip]\nid = "c-1"\nname = "VIP"\ndescription = "best"\n'
        'source = ["a*.csv", "s3://b/c-*.csv", "/x/y-{date}*.csv"]\ncolumn = "user.id"\n'
        'format = "csv"\nheader = false\nstrip = true\nmode = "mirror"\nenabled = false\n'
        'priority = -3\ndeadline = "06:30"\nowner = "crm"\ntags = ["a", "b"]\n'
        'on_changed = "restart"\nexpect_every = "90m"\npick = "newest"\n'
        'wait_for = "done"\nwait_minutes = 5\n'
        "[cohorts.vip.guards]\nmax_removals = 5\n"
        '[cohorts.vip.exclude]\nsource = "staff.txt"\nstrip = true\n'
    )
    vip = project_of(path).cohorts["vip"]
    assert vip.cohort == Cohort("c-1", "VIP", "best")
    assert vip.source == (f"{tmp_path}/a*.csv", "s3://b/c-*.csv", "/x/y-{date}*.csv")
    assert dataclasses.astuple(vip.reading) == ("user.id", "csv", False, True)
    assert (vip.mode, vip.enabled, vip.priority) == ("mirror", False, -3)
    assert (vip.deadline, vip.expect_every) == (time(6, 30), timedelta(minutes=90))
    assert (vip.owner, vip.tags, vip.on_changed, vip.pick) == (
        "crm",
        ("a", "b"),
        "restart",
        "newest",
    )
    assert (vip.wait_for, vip.wait_minutes) == (f"{tmp_path}/done", 5)
    assert (vip.guards.max_removals, vip.guards.max_additions) == (5, 7)
    assert vip.exclude is not None
    assert (vip.exclude.source, vip.exclude.reading.strip) == ((f"{tmp_path}/staff.txt",), True)
    assert (vip.key, vip.file, vip.workspace) == ("vip", path, "default")


def test_what_a_cohort_leaves_out_has_defaults(write: Write) -> None:
    vip = project_of(write(WORKSPACE + VIP)).cohorts["vip"]
    assert (vip.id, vip.mode, vip.enabled, vip.priority) == ("vip", "mirror", True, 0)
    assert (vip.deadline, vip.expect_every, vip.wait_for, vip.exclude) == (None,) * 4


def test_a_wildcard_in_the_name_of_the_folder_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    (folder / "c.toml").write_text(VIP.replace("vip.csv", "*.csv"), encoding="utf-8")
    main = folder / "main"
    main.write_text(f'include = ["*.toml"]\n{WORKSPACE}', encoding="utf-8")
    [vip] = project_of(main).cohorts.values()
    assert vip.source == (f"{tmp_path}/a[[]1][*]/*.csv",)


@pytest.mark.parametrize("place", ["folder", "home"])
def test_braces_in_the_name_of_the_folder_are_no_date(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "{date} [1]"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    before = "~/" if place == "home" else ""
    names = [f"{before}vip-{{date:%Y/%m/%d}}.csv", f"{before}vip-{{yesterday}}*/", f"{before}_done"]
    main = (folder if place == "folder" else tmp_path) / "config.toml"
    main.write_text(
        f"{WORKSPACE}[cohorts.vip]\nname = 'VIP'\nsource = {names[:2]}\nwait_for = '{names[2]}'\n"
        f"[cohorts.vip.exclude]\nsource = '{names[0]}'\n",
        encoding="utf-8",
    )
    [vip] = project_of(main).cohorts.values()
    assert vip.exclude is not None
    assert isinstance(vip.wait_for, str)
    found = [*vip.source, vip.wait_for, *vip.exclude.source]
    assert [expand_dates(name, date(2026, 11, 27)) for name in found] == [
        f"{folder}/vip-2026/11/27.csv",
        f"{tmp_path}/{{date}} [[]1]/vip-2026-11-26*/",
        f"{folder}/_done",
        f"{folder}/vip-2026/11/27.csv",
    ]


# Included files


def test_paths_in_an_included_file_are_relative_to_its_folder(write: Write, tmp_path: Path) -> None:
    path = write(
        f'include = ["cohorts.d/*.toml"]\n{WORKSPACE}{VIP}',
        **{
            "cohorts.d__b": VIP.replace("vip", "b") + 'wait_for = "b.done"\n'
            '[cohorts.b.exclude]\nsource = "staff.txt"\n',
            "cohorts.d__a": VIP.replace("vip", "a"),
            "cohorts.d__.hidden": "[broken",
        },
    )
    project = project_of(path)
    assert list(project.cohorts) == ["vip", "a", "b"]
    b = project.cohorts["b"]
    folder = tmp_path / "cohorts.d"
    assert (b.file, b.source) == (folder / "b.toml", (f"{folder}/b.csv",))
    assert b.wait_for == f"{folder}/b.done"
    assert b.exclude is not None
    assert b.exclude.source == (f"{folder}/staff.txt",)
    assert project.notes == ()


def test_files_above_the_folder_can_be_included(write: Write, tmp_path: Path) -> None:
    write("", teams__a=VIP)
    main = tmp_path / "etc" / "config.toml"
    main.parent.mkdir()
    main.write_text(f'include = ["../teams/*.toml"]\n{WORKSPACE}', encoding="utf-8")
    assert list(project_of(main).cohorts) == ["vip"]
    main.write_text(f'include = ["{tmp_path}/teams/*.toml"]\n{WORKSPACE}', encoding="utf-8")
    assert list(project_of(main).cohorts) == ["vip"]


def test_a_pattern_that_matches_nothing_is_a_note(write: Write) -> None:
    path = write(f'include = ["teams/*.toml"]\n{WORKSPACE}')
    project = project_of(path)
    assert project.notes == (f"{path}: `include`: 'teams/*.toml' matches no file",)


# Workspaces


def test_each_workspace_has_its_own_key_limits_and_partner(write: Write, tmp_path: Path) -> None:
    (tmp_path / "eu.key").write_text("eu-key\n", encoding="ascii")
    (tmp_path / "eu.key").chmod(0o600)
    text = TWO + '[limits]\nrequests = 200\npayload_bytes = 1000\n[sync]\ntime_zone = "UTC"\n'
    project = load_project(write(text), environ=US)
    eu, us = project.workspaces["eu"], project.workspaces["us-1"]
    assert (eu.workspace.id, us.workspace.id) == ("E", "U")
    assert eu.workspace.require_key().reveal() == "eu-key"
    assert us.workspace.require_key().reveal() == "us-key"
    assert (eu.pacing.requests, us.pacing.requests, us.packing.payload_bytes) == (200, 100, 1000)
    assert us.workspace.endpoint.url == "https://api-01.moengage.com"
    assert (eu.workspace.partner, us.workspace.partner) == ("cohortsync", "other")
    assert (eu.name, us.name, eu.place != us.place) == ("eu", "us-1", True)
    assert str(project.shared.sync.time_zone) == "UTC"


def test_variables_of_a_single_workspace_are_not_those_of_a_named_one(write: Write) -> None:
    plain = {"MOENGAGE_WORKSPACE_ID": "W", "MOENGAGE_API_KEY": "k"}
    with pytest.raises(ConfigError) as caught:
        load(write(TWO), workspace="us-1", environ=plain)
    assert [line.partition(": ")[2] for line in caught.value.message.splitlines()] == [
        "no workspace: set `workspaces.us-1.id` or `MOENGAGE_WORKSPACE_ID_US_1`",
        (
            "no API key: name a file that holds it as `workspaces.us-1.api_key_file`, "
            "or set `MOENGAGE_API_KEY_US_1`"
        ),
    ]


def test_a_workspace_without_a_key_does_not_stop_the_others(write: Write) -> None:
    project = project_of(write(TWO), **US)
    assert project.workspaces["us-1"].with_key(US).workspace.require_key().reveal() == "us-key"
    with pytest.raises(ConfigError, match=r"`workspaces\.eu\.api_key_file` names a file that"):
        project.workspaces["eu"].with_key(US)


def test_a_command_on_one_of_several_workspaces_names_it(write: Write) -> None:
    path = write(TWO)
    config = load(path, workspace="us-1", environ=US)  # The key of the other one is not read.
    assert config.workspace.id == "U"
    with pytest.raises(ConfigError) as caught:
        load(path, environ=US)
    assert caught.value.message == f"{path}: there are several workspaces: eu, us-1"
    assert caught.value.hint == "name one by --workspace NAME"
    with pytest.raises(ConfigError, match="no workspace 'us'; there are: eu, us-1"):
        load(path, workspace="us", environ=US)


def test_the_only_workspace_is_the_default(write: Write) -> None:
    [(name, config)] = project_of(write(WORKSPACE)).workspaces.items()
    assert (name, config.name, config.workspace.id) == ("default", "default", "DEMO")
    assert load(write(WORKSPACE), workspace="default", environ={"MOENGAGE_API_KEY": "k"})
    [config] = project_of(write(TWO.partition("[workspaces.us-1]")[0] + VIP)).workspaces.values()
    assert config.name == "eu"


# Variables


def test_variables_stand_in_any_text(write: Write) -> None:
    path = write(
        '[workspace]\nid = "${ID}"\nendpoint = "http://127.0.0.1:${PORT:-9}"\n'
        '[cohorts.vip]\nname = "VIP"\nowner = "${A}-$${A}-$5-${B:-}"\nsource = ["${A}.csv", "b$"]\n'
    )
    project = project_of(path, ID="W", A="a$$")
    assert project.shared.workspace.id == "W"
    assert project.shared.workspace.endpoint.port == 9
    vip = project.cohorts["vip"]
    assert vip.owner == "a$$-${A}-$5-"
    assert [Path(each).name for each in vip.source] == ["a$$.csv", "b$"]


@given(st.dictionaries(st.sampled_from("ABC"), st.text("x$}{", max_size=4)))
def test_a_value_is_replaced_once_and_a_doubled_dollar_is_one(environ: dict[str, str]) -> None:
    text = "$$${A:-a}${B:-b}$$${C:-c}"
    found = substitute({"key": text}, environ)
    expected = "${}{}${}".format(*(environ.get(name) or name.lower() for name in "ABC"))
    assert found.document == {"key": expected}
    assert found.names == {("key",): ["A", "B", "C"]}
    assert not found.problems


async def test_an_engine_uses_the_named_workspace(write: Write) -> None:
    path = write(TWO)
    async with Engine.open(path, workspace="us-1", environ=US) as engine:
        assert engine.config.workspace.id == "U"
    async with Engine.open(path, environ=US) as engine:  # For commands on all of them.
        assert list(engine.project.workspaces) == ["eu", "us-1"]
        with pytest.raises(ConfigError, match="several workspaces: eu, us-1"):
            _ = engine.config


def test_the_preflight_checks_the_named_workspace(write: Write) -> None:
    path = write(TWO)
    config, findings = check_settings(path, workspace="us-1", endpoint=None, state=None, environ=US)
    assert config is not None
    assert [(each.name, each.verdict) for each in findings] == [
        ("configuration", "ok"),
        ("credentials", "ok"),
    ]
    config, [failed, _] = check_settings(path, endpoint=None, state=None, environ=US)
    assert (config, failed.hint) == (None, "name one by --workspace NAME")
