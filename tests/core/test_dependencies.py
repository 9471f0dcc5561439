"""What an installation needs, and the page that says what each package is for."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_says_what_each_package_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {re.split(r"[^\w-]", each)[0] for each in project["dependencies"]}
    page = (ROOT / "docs/internals.md").read_text("utf-8").partition("## Dependencies")[2]
    assert required == set(re.findall(r"^\| `([\w-]+)` \| [\d.]+ \| \w", page, re.MULTILINE))
