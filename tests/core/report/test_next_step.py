"""The command that leads on, for every exit status and kind of run."""

import pytest

from engine.errors import ExitStatus
from engine.report.next_step import next_step

GUARD = {
    "guard": "removals",
    "verdict": "blocks",
    "override": '--allow removals=9 --reason "…"',
    "hint": None,
}
PASSES = {"guard": "additions", "verdict": "passes", "override": None, "hint": None}
EMPTY = {"guard": "empty", "verdict": "blocks", "override": None, "hint": None}


@pytest.mark.parametrize(
    ("status", "run", "synced_as", "mode", "command"),
    [
        (ExitStatus.PARTIAL, "r", None, "add", "cohortsync rejects r"),
        (ExitStatus.PARTIAL, "r", "vip", "mirror", "cohortsync rejects r"),
        (ExitStatus.USAGE, None, "vip", None, "cohortsync sync vip"),
        (ExitStatus.USAGE, "r", None, "add", "cohortsync show r"),
        (ExitStatus.REFUSED, "r", "vip", "mirror", "cohortsync check --live"),
        (ExitStatus.GUARDED, "r", None, "mirror", "cohortsync show r"),
        (ExitStatus.UNBALANCED, "r", None, "add", "cohortsync show r"),
        (ExitStatus.INCOMPLETE, "r", None, "add", "cohortsync resume r"),
        (ExitStatus.INCOMPLETE, "r", None, "mirror", "cohortsync show r"),
        (ExitStatus.INCOMPLETE, "r", "v p", "add", "cohortsync sync 'v p'"),
        (None, None, "vip", None, "cohortsync sync vip"),
        (None, "r", None, "add", "cohortsync show r"),
    ],
)
def test_the_command(status, run, synced_as, mode, command) -> None:
    found = next_step(status, run, synced_as=synced_as, mode=mode, guards=[])
    assert found is not None
    assert found.command == command


def test_nothing_follows_success() -> None:
    assert next_step(0, "r", synced_as=None, mode="add", guards=[PASSES]) is None


def test_a_guard_is_lifted_for_its_cohort_alone() -> None:
    def hint(*guards: dict[str, str | None], synced_as: str | None = "v p") -> str | None:
        found = next_step(4, "r", synced_as=synced_as, mode="mirror", guards=guards)
        assert found is not None
        assert found.command == "cohortsync show r"
        return found.hint

    assert "cohortsync sync 'v p' --allow 'v p:removals=9' --reason" in str(hint(PASSES, GUARD))
    assert "run it again with `--allow removals=9 --reason" in str(hint(GUARD, synced_as=None))
    assert hint(GUARD, EMPTY) is None
