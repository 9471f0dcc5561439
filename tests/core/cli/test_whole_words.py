"""Lines that are wrapped off a terminal: whatever may be pasted from them is whole."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from engine.cli import support
from engine.cli.text import wrapped
from engine.report.support import AnswerGroup

WORDS = st.lists(
    st.from_regex(r"[a-z/]{1,30}", fullmatch=True)
    | st.from_regex(r"`[a-z]{1,9} [a-z/]{1,20}`", fullmatch=True),
    min_size=1,
    max_size=12,
)


@given(words=WORDS, width=st.integers(5, 40), indent=st.integers(0, 4))
def test_no_word_and_no_command_is_broken(words: list[str], width: int, indent: int) -> None:
    pieces = list(wrapped(" ".join(words), width, " " * indent, keeps_words=True))
    assert " ".join(piece.strip() for piece in pieces) == " ".join(words)
    widest = max(map(len, words))
    for piece in pieces:
        assert len(piece) <= width or widest + indent > width
    for word in words:
        assert any(word in piece for piece in pieces)


def test_a_command_on_a_line_of_its_own_is_whole() -> None:
    command = f"    cohortsync sync {'x' * 50} --allow {'y' * 40}"
    assert list(wrapped(command, 40, keeps_words=True)) == [command]


def test_what_is_not_recorded_and_what_is_not_set_is_said_in_words() -> None:
    counts = {"sent": 1, "accepted": 0, "throttled": 0, "retried": 0, "split": 0}
    standing = dict.fromkeys(("planned", "accepted", "rejected", "unconfirmed", "pending"), 0)
    names = ("run", "status", "target", "workspace", "partner", "cohort_id", "cohort_name")
    accounts = SimpleNamespace(
        **dict.fromkeys((*names, "action", "started_at"), "x"),
        **dict.fromkeys(("exit_status", "finished_at")),
        requests=SimpleNamespace(**counts),
        uids=SimpleNamespace(**standing),
    )
    group = AnswerGroup("none", None, None, 2, 8, None, None, [])
    settings = {"notify": {"urls": (), "owners": {}, "name": None, "quiet": False, "most": 0}}
    found = SimpleNamespace(accounts=accounts, answers=[group], versions={}, settings=settings)
    lines = list(support._lines(found))  # type: ignore[arg-type] # as far as it is read
    assert "2 requests without an outcome: no answer is recorded" in lines
    assert lines[-1] == "[notify] quiet = false, most = 0"
