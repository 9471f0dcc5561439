"""The shell completes commands, options and values."""

import os
import subprocess
import sys

import pytest


def completions(words: str) -> list[str]:
    """Return what bash is offered for the last of `words`."""
    done = subprocess.run(
        [sys.executable, "-m", "engine"],
        env={
            **os.environ,
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
            "_COHORTSYNC_COMPLETE": "complete_bash",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cohortsync sup", ["support"]),
        ("cohortsync snapshot ver", ["verify"]),
        ("cohortsync show --ba", ["--batches"]),
        ("cohortsync push --format nd", ["ndjson"]),
    ],
)
def test_bash_is_offered(words: str, offered: list[str]) -> None:
    assert completions(words) == offered
