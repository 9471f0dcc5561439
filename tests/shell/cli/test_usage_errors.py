"""Command lines that cannot be read: one error and one hint, none in the framework's words."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli.application import main
from records import record

COHORT = ["--cohort-id", "c", "--cohort-name", "C"]
FRAMEWORK = (
    *("Invalid value", "Input should", "Value error", "not a valid", "Missing ", "No such"),
    *("Got unexpected", "<bool>", "<str>", "possibilities", "Possible options", "Traceback"),
)
Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ran:
    """Run a command line in this process: exit status, stdout and stderr."""
    # It sets handlers for signals, which are this process's own to keep.
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cohortsync", *words])
        with pytest.raises(SystemExit) as leaving:
            main()
        output = capsys.readouterr()
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, output.out, output.err

    return run


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["push", *COHORT], "needs EXPORT", "configured cohort"),
        (["push", "x"], "needs --cohort, or --cohort-id and --cohort-name", "push --help`"),
        (["push", "x", "--cohort-id", "c"], "needs --cohort-name, too", "push --help`"),
        (["plan", "x", "--cohort-name", "C"], "needs --cohort-id, too", "plan --help`"),
        (["mirror", *COHORT, "--cohort", "vip"], "--cohort and --cohort-id exclude", "table"),
        (["push", "--cohort", "vip", "--cohort-name", "C"], "and --cohort-name exclude", "table"),
        (["why", "u"], "needs --cohort or --cohort-id", "why --help`"),
        (["why", "u", "--cohort", "k", "--cohort-id", "c"], "and --cohort-id exclude", "table"),
        (["snapshot", "list"], "needs --cohort or --cohort-id", "snapshot list --help`"),
        (
            ["push", "x", *COHORT, "--wait", "-1"],
            "a number from 0 to 31,536,000",
            "push",
        ),
        (["push", "x", *COHORT, "--wait", "soon"], "--wait should be a number", "push"),
        (["push", "x", *COHORT, "--wait", "nan"], "--wait should be a number", "push"),
        (["push", "x", *COHORT, "--wait="], "--wait should be a number", "push"),
        (["push", "x", *COHORT, "--action", "toggle"], "should be one of add, remove", "push"),
        (["push", "x", *COHORT, "--format", "xlsx"], "one of auto, text, csv, tsv, ndjson", "push"),
        (["resume", "--on-changed", "ask"], "should be one of refuse, restart", "resume"),
        (
            ["push", "x", "--no-such"],
            "has no option --no-such",
            "did you mean --no-header or --no-strip?",
        ),
        (["push", "x", "-z"], "has no option -z", "push --help`"),
        (["push", "x", "--json=3"], "--json takes no value", "--help`"),
        (["push", "x", "--cohort-id"], "--cohort-id needs a value", "--help`"),
        (["pusx"], "has no command pusx", "did you mean `cohortsync push`?"),
        (["runs", "more", "words"], "takes no further argument: more words", "runs --help`"),
        (["snapshot"], "needs a command: list, verify, export", "snapshot --help`"),
        (["snapshot", "lost"], "has no command lost", "did you mean `cohortsync snapshot list`?"),
        (
            ["apply", "p", "--first", "0"],
            "from 1 to 1,000,000,000,000",
            "apply",
        ),
        (["apply", "p", "--first", "1.5"], "--first should be a whole number", "apply"),
        (["apply"], "needs PLAN", "apply --help`"),
        (["rollback", "--cohort-id", "c"], "needs --to", "rollback --help`"),
        (
            ["rollback", "--cohort-id", "c", "--to", "x"],
            "--to should be a whole number",
            "rollback",
        ),
        (["why", "--cohort-id", "c"], "needs UID", "why --help`"),
        (["show"], "needs RUN", "show --help`"),
        (
            ["emulator", "--limiter", "leaky"],
            "--limiter should be one of none, fixed, sliding, bucket, gcra",
            "emulator --help`",
        ),
        (
            ["emulator", "--retry-after", "soon"],
            "should be one of seconds, date, none",
            "emulator --help`",
        ),
        (["emulator", "--port", "http"], "--port should be a whole number", "emulator --help`"),
        (
            ["demo", "--uids", "0"],
            "from 1 to 1,000,000,000",
            "demo --help`",
        ),
        (["--flag"], "has no option --flag", "cohortsync --help`"),
    ],
)
def test_a_command_line_that_cannot_be_read(
    run: Ran, words: list[str], said: str, hint: str
) -> None:
    status, stdout, stderr = run(*words)
    assert (status, stdout) == (2, "")
    [line] = stderr.splitlines()
    output = record(line)
    assert (output["event"], output["exit_status"]) == ("error", "2")
    assert said in output["text"]
    assert hint in output["hint"]
    assert not [word for word in FRAMEWORK if word in stderr]


def test_with_json_it_is_a_document_too(run: Ran) -> None:
    status, stdout, stderr = run("push", "x", *COHORT, "--wait", "soon", "--json")
    document = json.loads(stdout)
    assert (status, document["exit_status"], document["status"]) == (2, 2, "failed")
    assert record(stderr.removesuffix("\n"))["text"] == document["reason"]


def test_words_from_outside_forge_no_line(run: Ran, tmp_path: Path) -> None:
    hostile = "x\nerror: \x1b[2J\u2028\u202e\x85y"
    for words in (
        [hostile],
        ["runs", hostile],
        ["show", hostile, "--state", str(tmp_path)],
        [f"--{hostile}"],
    ):
        status, _, stderr = run(*words)
        assert status == 2
        [line] = stderr.splitlines()
        assert "\\u202e" in line
