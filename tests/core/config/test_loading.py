import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.loading import Config, load
from engine.config.state_location import locate_state
from engine.errors import ConfigError
from engine.report.settings import AccountingSettings

KEY = "s3cr3t-key"
ENVIRONMENT = {"MOENGAGE_WORKSPACE_ID": "ENV", "MOENGAGE_API_KEY": KEY}
TARGET = 'endpoint = "http://127.0.0.1:8765"\n'
WORKSPACE = f'[workspace]\nid = "DEMO"\n{TARGET}'

CENTERS = '"01", "02", "03", "04", "05", "06", "101"'

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_config(text: str) -> Path:
        path = tmp_path / "etc" / "sync.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_config


def write_key(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "moengage.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def problems_of(path: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ=ENVIRONMENT if environ is None else environ)
    assert KEY not in caught.value.message
    return caught.value.message.splitlines()


def workspace_id(config: Config) -> str:
    return config.workspace.id


# Where it is found


def test_the_flag_wins_over_the_variable_and_that_over_the_folder(
    elsewhere: Path, tmp_path: Path
) -> None:
    named = {name: tmp_path / f"{name}.toml" for name in ("flag", "variable")}
    named["folder"] = elsewhere / "config.toml"
    for name, path in named.items():
        path.write_text(f'[workspace]\nid = "{name}"\n{TARGET}', encoding="utf-8")
    variable = {**ENVIRONMENT, "COHORTSYNC_CONFIG": str(named["variable"])}
    assert workspace_id(load(named["flag"], environ=variable)) == "flag"
    assert workspace_id(load(environ=variable)) == "variable"
    assert workspace_id(load(environ={**ENVIRONMENT, "COHORTSYNC_CONFIG": ""})) == "folder"


def test_a_named_file_that_is_missing_is_an_error_and_not_a_reason_to_look_further(
    elsewhere: Path,
) -> None:
    (elsewhere / "config.toml").write_text(WORKSPACE, encoding="utf-8")
    (flag,) = problems_of(Path("nope.toml"))
    assert flag == "nope.toml, named by `--config`: no such file or directory"
    (variable,) = problems_of(None, {**ENVIRONMENT, "COHORTSYNC_CONFIG": "nope.toml"})
    assert variable == "nope.toml, named by `COHORTSYNC_CONFIG`: no such file or directory"


def test_no_file_is_needed_when_flags_and_environment_say_it_all(elsewhere: Path) -> None:
    config = load(endpoint="https://api-02.moengage.com", environ=ENVIRONMENT)
    assert config.path is None
    assert config.workspace.endpoint.label == "api-02.moengage.com"
    assert config.workspace.require_key().reveal() == KEY
    assert config.state_dir == elsewhere / "state"


def test_nothing_at_all_is_reported_as_three_problems() -> None:
    problems = problems_of(None, {})
    assert [problem.split(":")[:2] for problem in problems] == [
        ["no config.toml here", " no workspace"],
        ["no config.toml here", " no target"],
        ["no config.toml here", " no API key"],
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[limits\n", "not TOML: "),
        (b"a = 1\na = 2\n", "not TOML: "),
        (b"a = " + b"1" * 5000, "not TOML: "),
        (b"a = " + b"[" * 5000, "not TOML: "),
        (b"a" + b".a" * 5000 + b" = 1", "tables are nested too deeply"),
        (b'id = "\xff"\n', "not UTF-8, at byte 6"),
    ],
)
def test_a_file_that_is_no_toml_is_reported_with_the_place(
    write: Write, content: bytes, says: str
) -> None:
    path = write("")
    path.write_bytes(content)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}: {says}")


def test_a_folder_in_the_files_place_cannot_be_read(elsewhere: Path) -> None:
    assert problems_of(elsewhere) == [f"{elsewhere}: cannot be read: Is a directory"]


def test_a_byte_order_mark_is_no_part_of_the_file(write: Write) -> None:
    path = write("")
    path.write_bytes(b"\xef\xbb\xbf" + WORKSPACE.encode())
    assert workspace_id(load(path, environ=ENVIRONMENT)) == "DEMO"


# Values


def test_the_file_sets_what_it_names_and_leaves_the_rest(write: Write) -> None:
    path = write(
        WORKSPACE + "[limits]\nrequests = 100\nper_seconds = 6\npayload_bytes = 131_072\n"
        "[delivery]\nmax_in_flight = 8\n[retry]\ngive_up_after_seconds = 60\n"
        "[accounting]\ntolerate_invalid = 0.01\n"
    )
    config = load(path, environ=ENVIRONMENT)
    assert (config.pacing.requests, config.pacing.per_seconds) == (100, 6.0)
    assert config.packing.payload_bytes == 131_072
    assert (config.delivery.max_in_flight, config.delivery.timeout_seconds) == (8, 60.0)
    assert (config.retry.give_up_after_seconds, config.retry.max_attempts) == (60.0, 10)
    assert config.accounting.tolerate_invalid == 0.01


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("limits.requests", "0", "should be a whole number from 1 to 10,000,000, not 0"),
        ("limits.requests", "-3", "should be a whole number from 1 to 10,000,000, not -3"),
        ("limits.requests", "300.0", "should be a whole number from 1 to 10,000,000, not 300.0"),
        ("limits.requests", "true", "should be a whole number from 1 to 10,000,000, not true"),
        ("limits.requests", '"300"', "should be a whole number from 1 to 10,000,000, not '300'"),
        ("limits.per_seconds", "0", "should be a number from 0.001 to 86,400, not 0"),
        ("limits.per_seconds", "true", "should be a number from 0.001 to 86,400, not true"),
        ("limits.per_seconds", "inf", "should be a number from 0.001 to 86,400, not inf"),
        ("limits.per_seconds", "nan", "should be a number from 0.001 to 86,400, not nan"),
        ("limits.payload_bytes", "[]", "should be a whole number from 1 to 1,048,576, not []"),
        *(
            (
                "accounting.tolerate_invalid",
                value,
                (
                    f"should be a whole number of rows up to 1,000,000,000,000, "
                    f"or a share from 0.0 to 1.0, not {output}"
                ),
            )
            for value, output in (("-1", "-1"), ("1.5", "1.5"), ("true", "true"))
        ),
        ("state.dir", '""', "should be a path"),
        ("state.dir", r'"a\u0000b"', "should be a path"),
        ("state.dir", '"~nobody-of-this-name/state"', "should be a path"),
        ("workspace.api_key_file", '""', "should be a path"),
        ("workspace.partner", '" "', "should not be empty"),
        ("workspace.data_center", '"7"', f"should be one of {CENTERS}, not '7'"),
        ("workspace.data_center", "101", f"should be one of {CENTERS}, not 101"),
    ],
)
def test_an_unfit_value_is_reported_with_its_key(
    write: Write, key: str, value: str, says: str
) -> None:
    table, _, name = key.partition(".")
    head = WORKSPACE if table == "workspace" else f"{WORKSPACE}[{table}]\n"
    path = write(f"{head}{name} = {value}\n")
    assert problems_of(path) == [f"{path}: `{key}` {says}"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[limits]\nrequest = 1", "unknown key `limits.request`; did you mean `limits.requests`?"),
        ("[limits]\nsize = 1", "unknown key `limits.size`; did you mean `limits.shared`?"),
        (
            "[delivery]\npayload_bytes = 1",
            "unknown key `delivery.payload_bytes`; did you mean `limits.payload_bytes`?",
        ),
        ("[limit]\nrequests = 1", "unknown table `limit`; did you mean `limits`?"),
        ("[limits.requests_]", "unknown key `limits.requests_`; did you mean `limits.requests`?"),
        ("[[limits]]\nrequests = 1", "`limits` should be a table, not [{'requests': 1}]"),
    ],
)
def test_an_unknown_name_is_reported_with_the_nearest_known_one(
    write: Write, text: str, says: str
) -> None:
    path = write(f"{WORKSPACE}{text}\n")
    assert problems_of(path) == [f"{path}: {says}"]


def test_a_key_outside_its_table_is_reported_where_it_belongs(write: Write) -> None:
    path = write(f"requests = 1\n{WORKSPACE}")
    assert problems_of(path) == [f"{path}: unknown key `requests`; did you mean `limits.requests`?"]


def test_all_problems_of_file_and_environment_are_reported_at_once(write: Write) -> None:
    path = write(
        '[workspace]\nid = 5\nendpoint = "http://u:p@example.com"\ndata_center = "1"\n'
        "[limits]\nrequests = 0\nper_second = 1\n[retrys]\n"
    )
    environ = {**ENVIRONMENT, "MOENGAGE_API_KEY": f"{KEY} {KEY}"}
    assert problems_of(path, environ) == [
        f"{path}: `limits.requests` should be a whole number from 1 to 10,000,000, not 0",
        f"{path}: `workspace.id` should be text in quotes, not 5",
        f"{path}: `workspace.data_center` should be one of {CENTERS}, not '1'",
        f"{path}: `workspace.endpoint` may not hold a user or password",
        f"{path}: unknown key `limits.per_second`; did you mean `limits.per_seconds`?",
        f"{path}: unknown table `retrys`; did you mean `retry`?",
        "environment: `MOENGAGE_API_KEY` should hold an API key: printable ASCII without blanks",
    ]


# Credentials


@pytest.mark.parametrize("table", ["workspace", "limits"])
def test_a_key_written_into_the_file_is_refused_with_the_way_out(write: Write, table: str) -> None:
    head = WORKSPACE if table == "workspace" else f"{WORKSPACE}[{table}]\n"
    path = write(f'{head}api_key = "{KEY}"\n')
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}: `{table}.api_key` does not belong in a file that is copied")
    assert "`workspace.api_key_file`" in problem
    assert "`MOENGAGE_API_KEY`" in problem


@pytest.mark.parametrize("newline", [b"", b"\n", b"\r\n"])
def test_the_key_file_is_found_beside_the_config_and_its_newline_is_dropped(
    write: Write, newline: bytes
) -> None:
    path = write(WORKSPACE + 'api_key_file = "moengage.key"\n')
    write_key(path.parent, KEY.encode() + newline)
    config = load(path, environ={})
    assert config.workspace.require_key().reveal() == KEY
    assert config.workspace.require_key().source == "api_key_file"
    assert config.notes == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds nothing"),
        (b"\n", "holds nothing"),
        (b"two words", "should hold an API key: printable ASCII without blanks"),
        (b"two\nlines\n", "should hold an API key: printable ASCII without blanks"),
        (b"\xff\xfe", "should hold an API key: printable ASCII without blanks"),
        (None, "names a file that cannot be read: No such file or directory"),
    ],
)
def test_a_key_file_without_a_key_is_refused(
    write: Write, content: bytes | None, says: str
) -> None:
    path = write(WORKSPACE + 'api_key_file = "moengage.key"\n')
    if content is not None:
        write_key(path.parent, content)
    assert problems_of(path, {}) == [f"{path}: `workspace.api_key_file` {says}"]


def test_a_key_in_the_place_of_its_files_name_is_not_repeated(write: Write) -> None:
    path = write(f'{WORKSPACE}api_key_file = "{KEY}"\n')
    assert problems_of(path, {})


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_file_that_others_can_read_is_noted(write: Write, mode: int) -> None:
    path = write(WORKSPACE + 'api_key_file = "moengage.key"\n')
    write_key(path.parent, KEY.encode(), mode)
    (note,) = load(path, environ={}).notes
    assert note.endswith(
        "`workspace.api_key_file`: other users can read the key; make the file's mode 0600"
    )


def test_the_file_wins_over_the_environment_and_says_so(write: Write) -> None:
    path = write(WORKSPACE + 'api_key_file = "moengage.key"\n')
    write_key(path.parent, b"from-file\n")
    config = load(path, environ=ENVIRONMENT)
    assert workspace_id(config) == "DEMO"
    assert config.workspace.require_key().reveal() == "from-file"
    assert config.notes == (
        f"`workspace.id` in {path} wins over `MOENGAGE_WORKSPACE_ID`",
        f"`workspace.api_key_file` in {path} wins over `MOENGAGE_API_KEY`",
    )


def test_the_environment_fills_in_what_the_file_leaves_out(write: Write) -> None:
    config = load(write(f"[workspace]\n{TARGET}"), environ=ENVIRONMENT)
    assert workspace_id(config) == "ENV"
    assert config.workspace.require_key().reveal() == KEY
    assert config.workspace.require_key().source == "MOENGAGE_API_KEY"
    assert config.notes == ()


@pytest.mark.parametrize("unfit", ["", "with:colon", "with blank", "line\n", "ümlaut"])
def test_an_id_that_a_header_cannot_carry_is_refused(write: Write, unfit: str) -> None:
    text = unfit.replace("\n", "\\n")
    path = write(f'[workspace]\nid = "{text}"\n{TARGET}')
    says = "should be printable ASCII without blanks and colons"
    assert problems_of(path) == [f"{path}: `workspace.id` {says}"]
    if unfit:
        environ = {**ENVIRONMENT, "MOENGAGE_WORKSPACE_ID": unfit}
        path = write(f"[workspace]\n{TARGET}")
        assert problems_of(path, environ) == [f"environment: `MOENGAGE_WORKSPACE_ID` {says}"]


def test_without_need_of_credentials_no_key_is_looked_for(write: Write) -> None:
    path = write(WORKSPACE + 'api_key_file = "not-there"\n')
    config = load(path, need_credentials=False, environ=ENVIRONMENT)
    assert config.workspace.api_key is None
    with pytest.raises(ConfigError, match="no API key"):
        config.workspace.require_key()


def test_no_form_of_the_config_shows_the_key(write: Write) -> None:
    config = load(write(WORKSPACE), environ=ENVIRONMENT)
    key = config.workspace.require_key()
    assert repr(key) == "ApiKey(***, from MOENGAGE_API_KEY)"
    for shown in (repr(config), str(config), repr(dataclasses.asdict(config)), f"{key}"):
        assert KEY not in shown


# Target and state folder


@pytest.mark.parametrize(
    ("lines", "flag", "url"),
    [
        ('data_center = "101"\n', None, "https://api-101.moengage.com"),
        ('data_center = "01"\n' + TARGET, None, "http://127.0.0.1:8765"),
        ('data_center = "01"\n' + TARGET, "https://example.com", "https://example.com"),
        ("", "https://example.com", "https://example.com"),
    ],
)
def test_the_flag_wins_over_endpoint_and_endpoint_over_data_center(
    write: Write, lines: str, flag: str | None, url: str
) -> None:
    config = load(write(f"[workspace]\n{lines}"), endpoint=flag, environ=ENVIRONMENT)
    assert config.workspace.endpoint.url == url


def test_a_flag_that_is_no_endpoint_is_reported(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"^command line: `--endpoint` should begin with"):
        load(write(WORKSPACE), endpoint="example.com", environ=ENVIRONMENT)


@pytest.mark.parametrize(
    ("written", "found"),
    [("folder", "etc/folder"), ("../folder", "etc/../folder"), ("/var/x", "/var/x")],
)
def test_the_state_folder_is_relative_to_the_file(
    write: Write, tmp_path: Path, written: str, found: str
) -> None:
    path = write(f'{WORKSPACE}[state]\ndir = "{written}"\n')
    assert load(path, environ=ENVIRONMENT).state_dir == tmp_path / found
    assert locate_state(path, environ={}) == tmp_path / found


def test_a_tilde_is_the_home_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(f'{WORKSPACE}[state]\ndir = "~/folder"\n')
    assert load(path, environ=ENVIRONMENT).state_dir == tmp_path / "folder"


def test_the_state_flag_is_relative_to_the_working_folder(write: Write, elsewhere: Path) -> None:
    path = write(f'{WORKSPACE}[state]\ndir = "folder"\n')
    assert load(path, state=Path("x"), environ=ENVIRONMENT).state_dir == elsewhere / "x"
    assert locate_state(path, state=Path("x")) == elsewhere / "x"


def test_the_state_folder_is_found_whatever_is_wrong_with_the_rest(
    write: Write, tmp_path: Path
) -> None:
    path = write('[workspace]\nid = 5\n[limit]\n[state]\ndir = "folder"\n')
    assert locate_state(path, environ={}) == tmp_path / "etc" / "folder"


@pytest.mark.parametrize("name", ["\udcff", "a\udc80b"])
def test_a_state_folder_whose_path_is_not_utf_8_is_refused(write: Write, name: str) -> None:
    path = write('[workspace]\nid = "W"\ndata_center = "01"\n')
    for find in (
        lambda: locate_state(path, state=Path(name)),
        lambda: load(path, state=Path(name), need_credentials=False),
    ):
        with pytest.raises(ConfigError, match="not valid UTF-8"):
            find()


def test_a_state_folder_that_is_none_is_reported_even_so(write: Write) -> None:
    path = write("[state]\ndir = 5\n")
    with pytest.raises(ConfigError, match=r"`state\.dir` should be text in quotes, not 5$"):
        locate_state(path, environ={})


# What wins over what

CENTER = 'data_center = "01"\n'
STATE = f'{TARGET}[state]\ndir = "a"\n'
FLAG = {"endpoint": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("text", "flags", "variables", "winner", "other"),
    [
        (CENTER + TARGET, {}, {}, "workspace.endpoint", "workspace.data_center"),
        (TARGET, FLAG, {}, "--endpoint", "workspace.endpoint"),
        (CENTER, FLAG, {}, "--endpoint", "workspace.data_center"),
        (STATE, {"state": Path("b")}, {}, "--state", "state.dir"),
        (TARGET + 'id = "DEMO"\n', {}, {}, "workspace.id", "MOENGAGE_WORKSPACE_ID"),
        (TARGET, {}, {"COHORTSYNC_CONFIG": "x.toml"}, "--config", "COHORTSYNC_CONFIG"),
        # What says the same, or is not set at all, loses nothing.
        (TARGET, {"endpoint": "http://127.0.0.1:8765"}, {}, None, ""),
        (TARGET, {"state": Path("b")}, {}, None, ""),
        (TARGET + 'id = "ENV"\n', {}, {}, None, ""),
        (TARGET, {}, {"COHORTSYNC_CONFIG": ""}, None, ""),
    ],
)
def test_what_wins_over_another_setting_is_noted(  # noqa: PLR0913, PLR0917 - a table of cases
    write: Write,
    text: str,
    flags: dict[str, Any],
    variables: dict[str, str],
    winner: str | None,
    other: str,
) -> None:
    path = write(f"[workspace]\n{text}")
    config = load(path, **flags, environ=ENVIRONMENT | variables)
    output = [
        f"`{name}` in {path}" if "." in name else f"`{name}`" for name in (winner or "", other)
    ]
    assert config.notes == (() if winner is None else (f"{output[0]} wins over {output[1]}",))


def test_a_key_file_wins_over_the_variable_and_says_so(write: Write) -> None:
    path = write(f'{WORKSPACE}api_key_file = "moengage.key"\n')
    write_key(path.parent, b"another-key")
    notes = load(path, environ={"MOENGAGE_API_KEY": KEY}).notes
    assert notes == (f"`workspace.api_key_file` in {path} wins over `MOENGAGE_API_KEY`",)


def test_a_configuration_that_the_variable_names_wins_over_the_folder_s(
    write: Write, elsewhere: Path
) -> None:
    path = write(WORKSPACE)
    (elsewhere / "config.toml").write_text(WORKSPACE, encoding="utf-8")
    notes = load(
        environ={**ENVIRONMENT, "MOENGAGE_WORKSPACE_ID": "", "COHORTSYNC_CONFIG": str(path)}
    ).notes
    assert notes == ("`COHORTSYNC_CONFIG` wins over ./config.toml",)


# What is tolerated


@pytest.mark.parametrize(
    ("tolerance", "lost", "rows", "tolerated"),
    [
        (0, 0, 0, True),
        (0, 1, 100, False),
        (5, 5, 5, True),
        (5, 6, 1_000_000, False),
        (1, 2, 2, False),
        (1.0, 2, 2, True),
        (0.0, 0, 0, True),
        (0.5, 0, 0, True),
        (0.0, 1, 100, False),
        (0.29, 29, 100, True),
        (0.29, 30, 100, False),
    ],
)
def test_an_integer_tolerates_rows_and_a_fraction_a_share(
    tolerance: float, lost: int, rows: int, *, tolerated: bool
) -> None:
    assert AccountingSettings(tolerance).tolerates(lost, rows) is tolerated


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_a_share_tolerates_exactly_the_rows_that_it_was_made_of(rows: int, extra: int) -> None:
    lost = min(rows, extra)
    settings = AccountingSettings(lost / rows)
    assert settings.tolerates(lost, rows)
    assert not settings.tolerates(lost + 1, rows)
