"""stderr off a terminal, read as a log shipper reads it: a logfmt record a line."""

import re

_PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"=]*)')


def record(line: str) -> dict[str, str]:
    """Read one line; an `AssertionError` if it is no record of ours."""
    pairs = _PAIR.findall(line)
    assert " ".join(f"{key}={value}" for key, value in pairs) == line, line
    found = {
        key: re.sub(r'\\(["\\])', r"\1", value[1:-1]) if value.startswith('"') else value
        for key, value in pairs
    }
    assert list(found)[:3] == ["time", "level", "event"], line
    assert found["level"] in {"info", "warning", "error"}, line
    return found


def records(log: str) -> list[dict[str, str]]:
    """Read a whole log; the last line may be cut where its process was killed."""
    lines = log.split("\n")
    return [record(line) for line in lines[:-1]]


def in_words(log: str) -> str:
    """Return a log with each error, end and hint as a terminal has them, after its record."""
    output = []
    for line in log.split("\n"):
        output.append(line)
        if line.startswith("time=") and line in log.split("\n")[:-1]:
            found = record(line)
            if found["event"] == "error":
                output[-1:] = [f"error: {found['text']}"]
            elif found.get("reason"):
                output.append(f"{found['status']}: {found['reason']}")
            if found.get("hint"):
                output.append(f"hint: {found['hint']}")
    return "\n".join(output)


def plain(text: str) -> str:
    """Return what was written to a terminal, without colours and the moves that redraw the bar."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
