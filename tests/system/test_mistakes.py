"""Mistakes that people make: one clear error each, exit status 2, and nothing sent or written."""

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clean_room import API_KEY
from emulated_api import Emulator
from nightly import TARGET, CommandLine, Ended

SECRET = "a-secret-of-someone"


@pytest.fixture
def exports(cli: CommandLine) -> Path:
    """Write exports that cannot be pushed as they are."""
    folder = cli.folder
    cli.write("good.txt", 3)
    (folder / "empty.txt").write_bytes(b"")
    (folder / "two.csv").write_bytes(b"user_id,country\n1,IN\n")
    (folder / "twice.csv").write_bytes(b"uid,uid\n1,2\n")
    (folder / "header.csv").write_bytes(b"")
    (folder / "semicolons.csv").write_bytes(b"uid;country\n1;IN\n")
    (folder / "utf16.txt").write_text("one\ntwo\n", encoding="utf-16")
    (folder / "unknown.dat").write_bytes(b"a,b\n1,2\n")
    (folder / "array.json").write_bytes(b'[{"uid":"1"}]')
    (folder / "hollow").mkdir()
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "linked").mkdir()
    (folder / "linked" / "gone.txt").symlink_to("nowhere.txt")
    with zipfile.ZipFile(folder / "book.xlsx", "w") as archive:
        archive.writestr("sheet", "1")
    pq.write_table(pa.table({"uid": [1.5, 2.5]}), folder / "floats.parquet")
    (folder / "cut.parquet").write_bytes((folder / "floats.parquet").read_bytes()[:-20])
    (folder / "bad.toml").write_text("[limits\n")
    (folder / "caf\udce9.txt").write_bytes(b"one\n")
    return folder


def refused(cli: CommandLine, api: Emulator, ended: Ended, said: str) -> None:
    """Check that a command reported what is wrong, and did nothing."""
    assert ended.status == 2, ended.stderr
    assert ended.stderr.startswith(("error: ", "time=")), ended.stderr
    assert said in ended.stderr
    assert ended.document["status"] == "failed"
    assert ended.document["reason"]
    assert api.received() == 0
    assert not (cli.folder / "state").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nowhere.csv", "nowhere.csv: no such file"),
        ("*.nope", "*.nope: no file matches"),
        ("hollow", "hollow: the folder holds no files"),
        ("loop.txt", "loop.txt: cannot be read"),
        ("linked", "gone.txt: a broken link"),
        ("empty.txt", "empty.txt: nothing to send"),
        ("header.csv", "header.csv: nothing to send"),
        ("two.csv", "two.csv: has 2 columns; which one holds the uids?"),
        ("two.csv --column userid", "hint: did you mean 'user_id'?"),
        ("twice.csv --column uid", "2 columns named 'uid'"),
        ("twice.csv --column uid", "--no-header --column N"),
        ("semicolons.csv", "seems to be several"),
        ("semicolons.csv", "';' is not read as a delimiter"),
        ("semicolons.csv --column uid", "';' is not read as a delimiter"),
        ("utf16.txt", "utf16.txt: is UTF-16"),
        ("unknown.dat", "neither name nor content shows the format"),
        ("array.json", "a JSON array cannot be read"),
        ("book.xlsx", "Excel"),
        ("floats.parquet --column uid", "floats.parquet"),
        ("cut.parquet --column uid", "cut.parquet"),
        ("caf\udce9.txt", "the name is not UTF-8"),
        ("good.txt good.txt", "good.txt: named twice"),
        ("- -", "named twice"),
        ("ftpx://host/uids.csv", "ftpx:// is not known"),
        ("good.txt --endpoint http://api-01.moengage.com", "over http"),
        ("good.txt --endpoint https://api-01.moengage.com/v1", "path"),
        ("good.txt --endpoint 127.0.0.1:80", "--endpoint"),
        ("good.txt --config nowhere.toml", "nowhere.toml, named by `--config`"),
        ("good.txt --config bad.toml", "bad.toml: not TOML"),
        ("good.txt --cohort-name a|b", "--cohort-name holds |"),
        ("good.txt --cohort-id", "--cohort-id"),
        ("good.txt --action toggle", "--action"),
        ("good.txt --format xlsx", "--format"),
        ("good.txt --wait -1", "--wait"),
        ("good.txt --wait soon", "--wait"),
        ("good.txt --no-such-option", "--no-such-option"),
    ],
)
def test_a_push_that_cannot_be(
    cli: CommandLine, api: Emulator, exports: Path, words: str, said: str
) -> None:
    del exports
    refused(cli, api, cli.run("push", *TARGET, "--json", *words.split()), said)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("limits.request", 3, "did you mean `limits.requests`"),
        ("limits.requests", 0, "`limits.requests`"),
        ("limits.requests", "300", "`limits.requests`"),
        ("limits.per_seconds", -1, "`limits.per_seconds`"),
        ("limits.payload_bytes", 50, "leaves no room for a uid"),
        ("delivery.max_in_flight", 0, "`delivery.max_in_flight`"),
        ("delivery.max_attempts", 3, "did you mean `retry.max_attempts`"),
        ("accounting.tolerate_invalid", 1.5, "`accounting.tolerate_invalid`"),
        ("workspace.data_center", "07", "`workspace.data_center`"),
        ("workspace.endpoint", "ftp://somewhere", "`workspace.endpoint`"),
        ("workspace.partner", "", "`workspace.partner`"),
        ("workspace.id", "two words", "`workspace.id`"),
        ("workspace.api_key", SECRET, "`workspace.api_key`"),
        ("workspace.api_key_file", SECRET, "`workspace.api_key_file`"),
        ("state.dir", "", "`state.dir`"),
        ("nonsense.key", 1, "nonsense"),
    ],
)
def test_a_configuration_that_cannot_be(
    cli: CommandLine, api: Emulator, key: str, value: object, said: str
) -> None:
    cli.write("good.txt", 3)
    table, _, name = key.partition(".")
    cli.configure(**{table: {name: value}})
    ended = cli.push("good.txt")
    refused(cli, api, ended, said)
    assert SECRET not in ended.stdout + ended.stderr


def test_all_problems_of_a_configuration_are_reported_at_once(cli: CommandLine) -> None:
    cli.write("good.txt", 3)
    cli.configure(limits={"requests": -1, "pages": 2}, workspace={"id": "a:b"})
    ended = cli.push("good.txt")
    for said in ("limits.requests", "limits.pages", "workspace.id"):
        assert any(said in line for line in ended.stderr.splitlines() if "error: " in line)


def test_missing_credentials_are_reported(cli: CommandLine, api: Emulator) -> None:
    cli.write("good.txt", 3)
    cli.variables["MOENGAGE_API_KEY"] = ""
    refused(cli, api, cli.push("good.txt"), "`MOENGAGE_API_KEY`")


def test_without_any_configuration_nothing_is_guessed(cli: CommandLine, api: Emulator) -> None:
    cli.write("good.txt", 3)
    (cli.folder / "config.toml").unlink()
    ended = cli.push("good.txt")
    refused(cli, api, ended, "where to send is never guessed")


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (f"https://someone:{SECRET}@127.0.0.1:9/uids.csv --column uid", {}),
        (f"https://127.0.0.1:9/uids.csv?signature={SECRET} --column uid", {}),
        (f"good.txt --endpoint https://someone:{SECRET}@127.0.0.1:9", {}),
        ("good.txt", {"MOENGAGE_API_KEY": f"{SECRET} with blanks"}),
        (
            "good.txt --endpoint https://cohortsync.invalid",
            {"HTTPS_PROXY": f"http://someone:{SECRET}@[not-a-host"},
        ),
    ],
)
def test_no_secret_is_ever_shown(cli: CommandLine, words: str, variables: dict[str, str]) -> None:
    cli.write("good.txt", 3)
    cli.variables |= variables
    ended = cli.push(*words.split())
    is_unreachable_export = words.startswith("https:")
    assert ended.status == (75 if is_unreachable_export else 2), ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_a_proxy_s_password_is_not_shown_when_it_cannot_be_reached(cli: CommandLine) -> None:
    cli.write("good.txt", 3)
    cli.configure(retry={"give_up_after_seconds": 0.01, "backoff_seconds": 0.01})
    cli.variables["HTTPS_PROXY"] = f"http://someone:{SECRET}@127.0.0.1:9"
    ended = cli.push("good.txt", "--endpoint", "https://cohortsync.invalid")
    assert ended.status == 75
    assert ended.document["target"] == "cohortsync.invalid"
    assert SECRET not in ended.stdout + ended.stderr


@pytest.mark.parametrize("name", ["blank.txt", "cut.txt.gz"])
def test_what_only_reading_can_tell_ends_the_run(
    cli: CommandLine, api: Emulator, name: str
) -> None:
    cli.configure(limits={"payload_bytes": 128_000})
    (cli.folder / "blank.txt").write_bytes(b" \n\n\t\n")
    whole = gzip.compress(b"".join(b"uid-%d\n" % number for number in range(50_000)))
    (cli.folder / "cut.txt.gz").write_bytes(whole[:-500])
    ended = cli.push(name)
    assert ended.status == 2
    assert ended.document["status"] == "source_failed"
    assert name in ended.document["reason"]
    # What holds no uid is read to its end all the same.
    assert ended.document["source_complete"] is (name == "blank.txt")
    accepted = ended.document["uids"]["accepted"]
    assert len(api.members()) == accepted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("show x --json --csv", "exclude each other"),
        ("rejects x --json --csv", "exclude each other"),
        ("show x --json", "is not there"),
        ("resume x --json", "is not there"),
        ("runs --json --config nowhere.toml", "nowhere.toml"),
        ("check --json --state", "--state"),
        ("tidy --json", "tidy"),
        ("emulator --limiter leaky --json", "--json"),
    ],
)
def test_other_commands_that_cannot_be(cli: CommandLine, words: str, said: str) -> None:
    ended = cli.run(*words.split())
    assert ended.status == 2
    assert said in ended.stderr
    assert json.loads(ended.stdout)["exit_status"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--limiter leaky", "one of none, fixed, sliding"),
        ("--requests 0", "at least 1"),
        ("--fault 500", "500"),
        ("--fault 599=0.1", "599"),
        ("--fault-at 413=x", "x"),
        ("--host 0.0.0.0", "--allow-remote"),
        ("--port 99999", "99999"),
        ("--plan nowhere.json", "nowhere.json"),
        ("--known-users nowhere.txt", "nowhere.txt"),
        (f"--workspace {API_KEY}", "ID:KEY"),
    ],
)
def test_an_emulator_that_cannot_be(cli: CommandLine, words: str, said: str) -> None:
    ended = cli.run("emulator", "--port", "0", *words.split())
    assert ended.status == 2
    assert ended.stderr.startswith("error: ")
    assert said in ended.stderr
    assert ended.stdout == ""


def test_an_emulator_shows_that_its_port_is_taken(cli: CommandLine, api: Emulator) -> None:
    ended = cli.run("emulator", "--port", api.url.rpartition(":")[2])
    assert ended.status == 2
    assert "hint:" in ended.stderr
