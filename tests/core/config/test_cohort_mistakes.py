"""Each mistake in cohorts, workspaces and included files is one line with its file and key."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.config.loading import load, load_project
from engine.errors import ConfigError

ENVIRONMENT = {"MOENGAGE_API_KEY": "k", "SECRET": "s3cr3t:x", "EMPTY": ""}
WORKSPACE = '[workspace]\nid = "DEMO"\nendpoint = "http://127.0.0.1:9"\n'
TWO = (
    '[workspaces.eu]\nid = "E"\nendpoint = "http://127.0.0.1:9"\n'
    '[workspaces.us]\nid = "U"\nendpoint = "http://127.0.0.1:9"\n'
)
VIP = '[cohorts.vip]\nname = "VIP"\nsource = "vip.csv"\n'


@dataclass(frozen=True)
class Mistake:
    """A configuration with one mistake, and the line that reports it."""

    text: str
    says: str
    """After the name of the file."""
    file: str = "config.toml"
    included: Mapping[str, str] = field(default_factory=dict)


def in_vip(lines: str, says: str) -> Mistake:
    return Mistake(f"{WORKSPACE}{VIP}{lines}\n", says)


def with_included(says: str, file: str = "config.toml", /, **included: str) -> Mistake:
    files = {f"{name}.toml": text for name, text in included.items()}
    return Mistake(f'include = ["*.toml"]\n{WORKSPACE}', says, file, files)


NOTIFY = '[notify.owners]\n"crm" = "json://host/S3CRET"\n'

MISTAKES = {
    # Notices
    "owner without a URL": Mistake(
        f'{WORKSPACE}{NOTIFY}{VIP}owner = "cmr"\n',
        "`cohorts.vip.owner` is not in [notify.owners]",
    ),
    "owner without a URL in an included file": Mistake(
        f'include = ["*.toml"]\n{WORKSPACE}{NOTIFY}',
        "`cohorts.lapsed.owner` is not in [notify.owners]",
        "team.toml",
        {"team.toml": '[cohorts.lapsed]\nname = "L"\nsource = "l.csv"\nowner = "growth"\n'},
    ),
    "owners that are no URLs": Mistake(
        f'{WORKSPACE}[notify.owners]\n"crm" = ["json://host/S3CRET", 5]\n',
        "`notify.owners` should be a table of owners, each with one Apprise URL or a list of them",
    ),
    "URLs that are no list": Mistake(
        f'{WORKSPACE}[notify]\nurls = "json://host/S3CRET"\n',
        "`notify.urls` should be a list of Apprise URLs, each of them a text, or `file:` and a "
        "path",
    ),
    "variable of an owner that is not set": Mistake(
        f'{WORKSPACE}[notify.owners]\n"crm" = ["${{CRM_URL}}"]\n',
        "`notify.owners.crm` names the variable `CRM_URL`, which is not set; `${CRM_URL:-…}` gives "
        "a default",
    ),
    "unknown event": Mistake(
        f'{WORKSPACE}[notify]\nevents = ["guards"]\n',
        "`notify.events` should be a list of some of guard, failure, incomplete, partial, late, "
        "members, overdue, recovery, not ['guards']",
    ),
    "ping that is no text": Mistake(
        f"{WORKSPACE}[pings]\nurl = 5\n",
        "`pings.url` should be a URL, or `file:` and the path of a file with it",
    ),
    "after that is no list": in_vip(
        'after = "start --now"',
        "`cohorts.vip.after` should be a list of texts: a program and its arguments, "
        "not 'start --now'",
    ),
    "marker with an invalid date": in_vip(
        'marker = "done/{day}"',
        "`cohorts.vip.marker` has an invalid date: {day} is not known, only {date}, {yesterday} "
        "are; '{{' and '}}' stand for a brace",
    ),
    "marker that is a URL": in_vip(
        'marker = "s3://bucket/done"', "`cohorts.vip.marker` should be a path, not a URL"
    ),
    "marker of two cohorts": Mistake(
        f'{WORKSPACE}{VIP}marker = "done"\n[cohorts.b]\nname = "B"\nsource = "b"\n'
        'marker = "./done"\n',
        "`cohorts.b.marker` is the marker of `cohorts.vip`, too",
    ),
    # Keys and values
    "unknown key": in_vip(
        "prioritiy = 1",
        "unknown key `cohorts.vip.prioritiy`; did you mean `cohorts.vip.priority`?",
    ),
    "unknown table in a cohort": in_vip(
        "[cohorts.vip.guard]\nmax_removals = 1",
        "unknown key `cohorts.vip.guard`; did you mean `cohorts.vip.guards`?",
    ),
    "a guard beside its table": in_vip(
        "max_removals = 1",
        "unknown key `cohorts.vip.max_removals`; did you mean `cohorts.vip.guards.max_removals`?",
    ),
    "no table": Mistake(f"cohorts = 5\n{WORKSPACE}", "`cohorts` should be a table, not 5"),
    "cohort that is no table": Mistake(
        f"{WORKSPACE}[cohorts]\nvip = 5\n", "`cohorts.vip` should be a table, not 5"
    ),
    "exclude that is no table": in_vip(
        'exclude = "a.csv"', "`cohorts.vip.exclude` should be a table, not 'a.csv'"
    ),
    "mode": in_vip(
        'mode = "miror"',
        '`cohorts.vip.mode` should be one of "mirror", "changes", "add", "remove", not \'miror\'',
    ),
    "format": in_vip(
        'format = "xml"',
        "`cohorts.vip.format` should be one of "
        '"auto", "text", "csv", "tsv", "ndjson", "parquet", not \'xml\'',
    ),
    "deadline": in_vip(
        'deadline = "6:00"',
        '`cohorts.vip.deadline` should be a time of day as "HH:MM", from "00:00" to "23:59", '
        "not '6:00'",
    ),
    "deadline of tomorrow": in_vip(
        'deadline = "24:00"',
        '`cohorts.vip.deadline` should be a time of day as "HH:MM", from "00:00" to "23:59", '
        "not '24:00'",
    ),
    "duration": in_vip(
        'expect_every = "1 day"',
        "`cohorts.vip.expect_every` should be a duration in minutes, hours or days, "
        'as "90m", "24h" or "7d", not \'1 day\'',
    ),
    "priority": in_vip(
        "priority = 1.5",
        "`cohorts.vip.priority` should be a whole number from -1,000,000 to 1,000,000, not 1.5",
    ),
    "tags": in_vip(
        'tags = "daily"',
        "`cohorts.vip.tags` should be a list of texts, none of them blank, not 'daily'",
    ),
    "pick": in_vip(
        'pick = "latest"', '`cohorts.vip.pick` should be one of "all", "newest", not \'latest\''
    ),
    "on_changed": in_vip(
        'on_changed = "go"',
        '`cohorts.vip.on_changed` should be one of "refuse", "restart", not \'go\'',
    ),
    "wait_for": in_vip(
        "wait_for = false",
        "`cohorts.vip.wait_for` should be true for the export itself, or the path of a marker, "
        "not false",
    ),
    "wait_minutes of none": in_vip(
        "wait_for = true\nwait_minutes = 0",
        "`cohorts.vip.wait_minutes` should be a number from 0.01 to 100,000, not 0",
    ),
    "unknown date": Mistake(
        f'{WORKSPACE}[cohorts.vip]\nname = "VIP"\nsource = ["a.csv", "b-{{tomorrow}}.csv"]\n',
        "`cohorts.vip.source` has an invalid date: {tomorrow} is not known, "
        "only {date}, {yesterday} are; '{{' and '}}' stand for a brace",
    ),
    "date with a directive of the time": in_vip(
        'wait_for = "done-{date:%H}"',
        "`cohorts.vip.wait_for` has an invalid date: the format '%H' should have as directives "
        "only %Y, %m, %d, %y, %j, %G, %V, %u and %%",
    ),
    "date without an end": in_vip(
        '[cohorts.vip.exclude]\nsource = "staff-{date.csv"',
        "`cohorts.vip.exclude.source` has an invalid date: expected '}' before end of string; "
        "'{{' and '}}' stand for a brace",
    ),
    "date in a variable": in_vip(
        'wait_for = "{${SECRET}}"', "`cohorts.vip.wait_for` has an invalid date"
    ),
    "newest without a wildcard": in_vip(
        'pick = "newest"',
        "`cohorts.vip.pick` can't be \"newest\" for 'vip.csv': "
        "the newest can be picked only by a pattern with a wildcard, such as vip-*.csv",
    ),
    "newest over http": Mistake(
        f'{WORKSPACE}[cohorts.vip]\nname = "VIP"\npick = "newest"\n'
        'source = "https://u:s3cr3t@h/a*.csv"\n',
        "`cohorts.vip.pick` can't be \"newest\" for 'https://h/a*.csv': "
        "a server cannot list files over http, so that none can be picked as the newest",
    ),
    "file of another machine": Mistake(
        f'{WORKSPACE}[cohorts.vip]\nname = "VIP"\nsource = "file://h/a*"\npick = "newest"\n',
        "`cohorts.vip.source` names another machine: file:// is for files of this one",
    ),
    "exclude and remove": in_vip(
        'mode = "remove"\n[cohorts.vip.exclude]\nsource = "a.csv"',
        '`cohorts.vip.exclude` can\'t be used with mode = "remove": it says who is not added',
    ),
    "wait_minutes alone": in_vip(
        "wait_minutes = 5",
        "`cohorts.vip.wait_minutes` needs `wait_for`: true, or the path of a marker",
    ),
    "time zone": Mistake(
        f'{WORKSPACE}[sync]\ntime_zone = "Mars/Olympus"\n',
        '`sync.time_zone` should be a time zone of this machine, as "Europe/Berlin" or "UTC", '
        "not 'Mars/Olympus'",
    ),
    "time zone that is a folder": Mistake(
        f'{WORKSPACE}[sync]\ntime_zone = "Europe"\n',
        '`sync.time_zone` should be a time zone of this machine, as "Europe/Berlin" or "UTC", '
        "not 'Europe'",
    ),
    "on_late": Mistake(
        f'{WORKSPACE}[sync]\non_late = "stop"\n',
        '`sync.on_late` should be one of "run", "refuse", "cut", not \'stop\'',
    ),
    "keep_days": Mistake(
        f"{WORKSPACE}[state]\nkeep_days = 0\n",
        "`state.keep_days` should be a whole number from 1 to 36,500, not 0",
    ),
    # What a cohort needs
    "no source": Mistake(
        f'{WORKSPACE}[cohorts.vip]\nname = "VIP"\n',
        "`cohorts.vip.source` is needed: a file, glob, folder, URL or query",
    ),
    "no name": Mistake(
        f'{WORKSPACE}[cohorts.vip]\nsource = "a.csv"\n',
        "`cohorts.vip.name` is needed: the name that the dashboard shows",
    ),
    "empty list of sources": Mistake(
        f'{WORKSPACE}[cohorts.vip]\nname = "VIP"\nsource = []\n',
        "`cohorts.vip.source` should be text, a list of texts, or a table with `connection` and "
        "`query`, `delta` or `iceberg`, not []",
    ),
    "standard input": Mistake(
        f'{WORKSPACE}[cohorts.vip]\nname = "VIP"\nsource = "-"\n',
        "`cohorts.vip.source` may not be `-`: a scheduled run has no standard input",
    ),
    "exclude without source": in_vip(
        '[cohorts.vip.exclude]\ncolumn = "uid"',
        "`cohorts.vip.exclude.source` is needed: a file, glob, folder, URL or query",
    ),
    "name that the API refuses": Mistake(
        f'{WORKSPACE}[cohorts.vip]\nname = "A|B"\nsource = "a.csv"\n',
        "`cohorts.vip.name` holds |, which the API refuses",
    ),
    "empty id": in_vip('id = " "', "`cohorts.vip.id` is empty"),
    "empty key": Mistake(
        f'{WORKSPACE}[cohorts.""]\nname = "VIP"\nsource = "a.csv"\n', '`cohorts."".id` is empty'
    ),
    "owner with a control character": in_vip(
        r'owner = "a\u0007b"', "`cohorts.vip.owner` holds a control character"
    ),
    # Guards
    "guard that cannot be": in_vip(
        "[cohorts.vip.guards]\nexpected_size = [9, 1]",
        "`cohorts.vip.guards.expected_size` should be [least, most], the least first",
    ),
    "pattern that is none": in_vip(
        '[cohorts.vip.guards]\nuid_pattern = "(a"',
        "`cohorts.vip.guards.uid_pattern` is no regular expression: missing ): (a",
    ),
    "share beyond all": in_vip(
        "[cohorts.vip.guards]\nmax_removals = 1.5",
        "`cohorts.vip.guards.max_removals` should be a whole number up to 1,000,000,000,000, "
        "a share from 0.0 to 1.0, or a list of both, not 1.5",
    ),
    "guard that a push does not check": in_vip(
        'mode = "add"\n[cohorts.vip.guards]\nmax_removals = 5',
        '`cohorts.vip.guards.max_removals` can\'t be checked with mode = "add": '
        "only a mirror compares",
    ),
    # Workspaces
    "both kinds of workspaces": Mistake(
        WORKSPACE + TWO,
        "`workspace` and `workspaces` exclude each other: "
        "give each workspace a table [workspaces.NAME]",
    ),
    "unknown workspace": Mistake(
        f'{TWO}{VIP}workspace = "ue"\n',
        '`cohorts.vip.workspace` should be one of "eu", "us", not \'ue\'',
    ),
    "unknown only workspace": in_vip(
        'workspace = "eu"', "`cohorts.vip.workspace` should be one of \"default\", not 'eu'"
    ),
    "no workspace named": Mistake(
        f"{TWO}{VIP}",
        '`cohorts.vip.workspace` is needed, since there are several: one of "eu", "us"',
    ),
    "no workspace at all": Mistake(
        "[workspaces]\n", "`workspaces` holds no workspace: each is a table [workspaces.NAME]"
    ),
    "same workspace twice": Mistake(
        TWO.replace('"U"', '"E"'),
        "`workspaces.us` and `workspaces.eu` have the same endpoint, id and partner",
    ),
    "two ceilings of one workspace": Mistake(
        TWO.replace('"U"', '"E"\npartner = "other"') + "[workspaces.us.limits]\nrequests = 7\n",
        "`workspaces.us` and `workspaces.eu` have the same endpoint and id, so that they share a "
        "ceiling, but other limits",
    ),
    "same variable": Mistake(
        TWO.replace("eu", "a-b").replace("us", "a_b"),
        "`workspaces.a_b` and `workspaces.a-b` would share the variable MOENGAGE_API_KEY_A_B: "
        "rename one",
    ),
    "name of a workspace": Mistake(
        TWO.replace("workspaces.eu", 'workspaces."../eu"'),
        '`workspaces."../eu"` should be named by at most 64 letters, digits, `-` and `_`',
    ),
    "limits of a workspace": Mistake(
        f"{TWO}[workspaces.us.limits]\nrequests = 0\n",
        "`workspaces.us.limits.requests` should be a whole number from 1 to 10,000,000, not 0",
    ),
    "another table of a workspace": Mistake(
        f"{TWO}[workspaces.us.limit]\n",
        "unknown key `workspaces.us.limit`; did you mean `workspaces.us.limits`?",
    ),
    "key of a workspace": Mistake(
        f'{TWO}api_key = "s3cr3t"\n',
        "`workspaces.us.api_key` does not belong in a file that is copied, shared and versioned: "
        "put the key into a file of its own (mode 0600) and name that as "
        "`workspaces.us.api_key_file`, or set its variable",
    ),
    "key beside the limits": Mistake(
        f"{TWO}requests = 5\n",
        "unknown key `workspaces.us.requests`; did you mean `workspaces.us.limits.requests`?",
    ),
    "command that is no list": Mistake(
        f'{WORKSPACE}api_key_command = "vault read"\n',
        "`workspace.api_key_command` should be a list of texts: a program and its arguments, "
        "not 'vault read'",
    ),
    # Included files
    "same cohort in two files": with_included(
        "`cohorts.vip` is in {folder}/a.toml, too: each cohort has one table",
        "b.toml",
        a=VIP,
        b=VIP,
    ),
    "same id in two files": with_included(
        "`cohorts.gold.id` is the id of `cohorts.vip` in {folder}/a.toml, too, "
        "in the same workspace",
        "b.toml",
        a=VIP,
        b='[cohorts.gold]\nid = "vip"\nname = "Gold"\nsource = "gold.csv"\n',
    ),
    "other tables in an included file": with_included(
        "`limits` belongs in {folder}/config.toml: an included file holds [cohorts] only",
        "a.toml",
        a="[limits]\nrequest = 5\n",
    ),
    "an included file that includes": with_included(
        "`include` belongs in {folder}/config.toml: an included file holds [cohorts] only",
        "a.toml",
        a='include = ["config.toml"]\n',
    ),
    "an included file with a mistake": with_included(
        '`cohorts.vip.mode` should be one of "mirror", "changes", "add", "remove", not \'x\'',
        "a.toml",
        a=f'{VIP}mode = "x"\n',
    ),
    "itself": Mistake(
        f'include = ["config.toml"]\n{WORKSPACE}', "`include` includes {folder}/config.toml itself"
    ),
    "a file twice": Mistake(
        f'include = ["a.toml", "a*.toml"]\n{WORKSPACE}',
        "`include` includes {folder}/a.toml twice, by `a.toml` and `a*.toml`",
        included={"a.toml": VIP},
    ),
    "a pattern that is none": Mistake(
        f'include = ["**a"]\n{WORKSPACE}',
        "`include` Invalid pattern: '**' can only be an entire path component",
    ),
    "a text for the list": Mistake(
        f'include = "a.toml"\n{WORKSPACE}',
        "`include` should be a list of texts, none of them blank, not 'a.toml'",
    ),
    # Variables
    "variable that is not set": in_vip(
        'owner = "${OWNER}"',
        "`cohorts.vip.owner` names the variable `OWNER`, which is not set; "
        "`${OWNER:-…}` gives a default",
    ),
    "variable that is none": in_vip(
        'owner = "${OW-NER}"',
        "`cohorts.vip.owner` holds a `${` that is no `${NAME}` and no `${NAME:-default}`; "
        "for a dollar, write `$$`",
    ),
    "empty variable": Mistake(
        WORKSPACE.replace("DEMO", "${EMPTY}"),
        "`workspace.id` should be printable ASCII without blanks and colons",
    ),
    "value of a variable": in_vip(
        'mode = "${SECRET}"',
        '`cohorts.vip.mode` should be one of "mirror", "changes", "add", "remove", '
        "not the value of `${SECRET}`",
    ),
    "unknown workspace by a variable": in_vip(
        'workspace = "${SECRET}"',
        '`cohorts.vip.workspace` should be one of "default", not the value of `${SECRET}`',
    ),
    "pattern from a variable": in_vip(
        '[cohorts.vip.guards]\nuid_pattern = "(${SECRET}"',
        "`cohorts.vip.guards.uid_pattern` is no regular expression",
    ),
    "variable within a table in place of a text": in_vip(
        'column = { name = "${SECRET}" }',
        "`cohorts.vip.column` should be text in quotes that is not blank, "
        "not the value of `${SECRET}`",
    ),
    "variable in place of a number": Mistake(
        f'{WORKSPACE}[limits]\nrequests = "${{SECRET}}"\n',
        "`limits.requests` should be a whole number from 1 to 10,000,000, "
        "not the value of `${SECRET}`",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_file_and_key(name: str, tmp_path: Path) -> None:
    mistake = MISTAKES[name]
    main = tmp_path / "config.toml"
    for path, text in {"config.toml": mistake.text, **mistake.included}.items():
        # Included files are found beside the main one, which therefore has another suffix.
        (tmp_path / path).write_text(text, encoding="utf-8")
    if any("*.toml" in line for line in mistake.text.splitlines()[:1]):
        main = main.rename(tmp_path / "config.main")
    with pytest.raises(ConfigError) as caught:
        load_project(main, need_credentials=False, environ=ENVIRONMENT)
    says = mistake.says.format(folder=tmp_path) if "{folder}" in mistake.says else mistake.says
    assert "s3cr3t" not in caught.value.message
    expected = f"{tmp_path / mistake.file}: {says}".replace(f"{tmp_path}/config.toml", str(main))
    assert caught.value.message.splitlines() == [expected]
    assert caught.value.hint


def test_a_file_that_is_included_and_missing_is_a_problem(tmp_path: Path) -> None:
    main = tmp_path / "config.toml"
    main.write_text(f'include = ["a.toml"]\n{WORKSPACE}', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(main, environ=ENVIRONMENT)
    missing = f"{tmp_path}/a.toml: cannot be read: No such file or directory"
    assert caught.value.message == f"{missing} (included by {main})"


def test_mistakes_of_several_files_are_reported_at_once(tmp_path: Path) -> None:
    main = tmp_path / "config.main"
    main.write_text(f'include = ["*.toml"]\n{WORKSPACE}[limit]\n', encoding="utf-8")
    (tmp_path / "a.toml").write_text("[cohorts.vip\n", encoding="utf-8")
    (tmp_path / "b.toml").write_text(f'{VIP}mode = "x"\n', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(main, environ={})
    files = [line.partition(":")[0] for line in caught.value.message.splitlines()]
    assert sorted(files) == [str(tmp_path / name) for name in ("a.toml", "b.toml")] + [
        str(main),
        str(main),
    ]


def test_a_value_of_the_environment_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    main = tmp_path / "config.toml"
    main.write_text(f'{WORKSPACE}{VIP}owner = "${{OWNER}}"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"whose value is not valid UTF-8$"):
        load_project(main, environ=ENVIRONMENT | {"OWNER": os.fsdecode(b"\xff")})
