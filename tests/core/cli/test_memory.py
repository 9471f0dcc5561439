"""Too little memory is reported as such, and nothing else is."""

import resource

import pytest

from engine.cli.memory import lack_of_memory, refuse_narrow_address_space
from engine.errors import ExitStatus, IncompleteError

LACKS = {
    "Python": MemoryError(),
    "PyArrow": MemoryError("malloc of size 64 failed"),
    "a library": ImportError("libparquet.so: failed to map segment from shared object"),
    "another": ImportError("libx.so: cannot allocate memory in static TLS block"),
    "a thread": RuntimeError("can't start new thread"),
}
OTHERS = {
    "a missing library": ImportError("No module named 'numpy'"),
    "a state": RuntimeError("the comparison does not add up"),
    "a value": ValueError("memory"),
}


@pytest.mark.parametrize("error", LACKS.values(), ids=LACKS.keys())
def test_too_little_memory_is_reported(error: Exception) -> None:
    output = lack_of_memory(error)
    assert output is not None
    assert output.exit_status is ExitStatus.INCOMPLETE
    assert "ulimit -v" in str(output.hint)


@pytest.mark.parametrize("error", OTHERS.values(), ids=OTHERS.keys())
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert lack_of_memory(error) is None


@pytest.mark.parametrize(
    ("limit", "is_refused"), [(resource.RLIM_INFINITY, False), (2**30, False), (500_000_000, True)]
)
def test_an_address_space_in_which_nothing_runs_is_refused(
    monkeypatch: pytest.MonkeyPatch, limit: int, *, is_refused: bool
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    if not is_refused:
        refuse_narrow_address_space()
        return
    with pytest.raises(IncompleteError, match="limited to 500 MB") as caught:
        refuse_narrow_address_space()
    assert "ulimit -v" in str(caught.value.hint)
