"""README.md and the pages in docs/ as steps that a test can run.

A fence marked `sh` is run line by line; `sh not-run` is not, and the test has the reason. In front
of a fence, or alone, a comment that a reader does not see says more:

    <!-- run: COMMAND -->       run a command that the page does not show
    <!-- append: NAME -->       append the fence that follows to a file
    <!-- capture: COMMAND -->   the fence that follows is what the command prints on a terminal

A command with the comment `# exit status N` should end with it, any other with 0.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_STEP = re.compile(
    r"(?:<!-- (?P<comment>run|append|capture): (?P<argument>.*?) -->\n*)?"
    r"(?:(?<=\n)(?P<indent> *)```(?P<info>[^\n]*)\n(?P<body>.*?)\n?(?P=indent)```\n)?",
    flags=re.DOTALL,
)
_STATUS = re.compile(r"# exit status (\d+)")


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block of a page."""

    info: str
    body: str
    comment: str | None = None
    """`append` or `capture`, if such a comment stands in front."""
    argument: str = ""
    start: int = 0
    """Where the body begins in the page."""


@dataclass(frozen=True, slots=True)
class Command:
    """A line for the shell, and the exit status that it should end with."""

    line: str
    exit_status: int = 0

    @classmethod
    def of(cls, line: str) -> "Command":
        found = _STATUS.search(line)
        return cls(re.split(r"\s+# ", line)[0].strip(), int(found[1]) if found else 0)


def steps(text: str) -> Iterator[Fence | Command]:
    """Yield the fences of a page and the commands in its comments, in their order."""
    for found in _STEP.finditer(text):
        comment, argument = found["comment"], found["argument"] or ""
        if comment == "run":
            yield Command.of(argument)
            comment = None
        if found["info"] is not None:
            indent = found["indent"]
            body = "".join(
                line.removeprefix(indent) for line in found["body"].splitlines(keepends=True)
            )
            yield Fence(found["info"], body, comment, argument, found.start("body"))
        else:
            assert comment is None, f"no fence follows the comment {found[0]}"


def commands(fence: Fence) -> list[Command]:
    """Return the commands of a fence marked `sh`."""
    joined = fence.body.replace("\\\n", " ")
    return [
        Command.of(line)
        for line in joined.splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]


def fences(page: Path, info: str) -> list[str]:
    """Return the bodies of a page's fences with this mark."""
    found = steps(page.read_text(encoding="utf-8"))
    return [each.body for each in found if isinstance(each, Fence) and each.info == info]
