"""Every command in README.md and in docs/ runs, page by page, in the order in which they stand.

With REWRITE_CAPTURES=1 (`make captures`) the captures in the pages are written anew.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated_api import Emulator, emulator
from nightly import CommandLine
from page_runner import PageRunner, without_varying

from pages import PAGES, ROOT, Command, Fence, steps

DEMO = "DEMO:demo-key"
"""Workspace and key of the shipped configuration, which the README uses."""
NOT_RUN = {
    "pip install .": "the package is installed where the tests run",
    "uv tool install .": "test_recipes installs it, into a folder of its own",
    "docker build --file docs/Dockerfile --tag cohortsync .": "needs a builder: see test_recipes",
    "systemctl enable --now cohortsync@daily.timer": "test_recipes verifies the units",
    "kubectl taint nodes NODE node.kubernetes.io/out-of-service=nodeshutdown:NoExecute": (
        "needs a cluster"
    ),
}
"""The first lines of the fences marked `sh not-run`, and why."""
OF_ITS_OWN = {"nightly"}
"""Pages that need exports and cohorts: a test of their own runs their commands."""
REWRITES = bool(os.environ.get("REWRITE_CAPTURES"))


@pytest.fixture(scope="module")
def page_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    flags = ("--limiter", "none", "--workspace", DEMO)
    with emulator(tmp_path_factory.mktemp("emulator"), *flags) as running:
        yield running


@pytest.fixture
def runner(page_api: Emulator, tmp_path: Path) -> Iterator[PageRunner]:
    page_api.reset()
    folder, binaries = tmp_path / "page", tmp_path / "bin"
    folder.mkdir()
    binaries.mkdir()
    running = PageRunner(CommandLine(folder, page_api.url), binaries)
    running.prepare()
    yield running
    running.end()


def configure(runner: PageRunner, page: Path) -> None:
    """Write the configuration that a page supposes: README.md the shipped one."""
    if page.name != "README.md":
        runner.cli.configure(mirror={"settle_seconds": 0.0}, limits={"payload_bytes": 128_000})
        return
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    text = text.replace("http://127.0.0.1:8765", runner.cli.url)
    (runner.cli.folder / "config.toml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem not in OF_ITS_OWN], ids=lambda page: page.stem
)
def test_the_commands_of_a_page(runner: PageRunner, page: Path) -> None:
    configure(runner, page)
    text = page.read_text(encoding="utf-8")
    written = text
    for step in steps(text):
        runner.run(step)
        if isinstance(step, Fence) and step.comment == "capture" and "demo" not in step.argument:
            address = runner.cli.url.removeprefix("http://")
            printed = runner.capture(Command.of(step.argument)).replace(address, "127.0.0.1:8765")
            if REWRITES:
                at = step.start + len(written) - len(text)
                written = (
                    written[:at] + printed + "\n" + written[at + len(step.body) :].lstrip("\n")
                )
            else:
                assert without_varying(printed) == without_varying(step.body), "`make captures`"
    if written != text:
        page.write_text(written, encoding="utf-8")


def test_the_capture_of_the_demo(runner: PageRunner) -> None:
    """The demo takes 14 s at the API's ceiling; unless it is to be shown, a shorter one does."""
    page = ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    [step] = [each for each in steps(text) if isinstance(each, Fence) and "demo" in each.argument]
    shorter = "" if REWRITES else " --uids 5000 --requests 300 --per-seconds 1"
    printed = runner.capture(Command.of(step.argument + shorter))
    if REWRITES:
        end = step.start + len(step.body)
        page.write_text(f"{text[: step.start]}{printed}\n{text[end:].lstrip()}", encoding="utf-8")
    else:
        # Its numbers differ each time, and with them where lines are broken.
        shown, found = (re.findall(r"(?m)^\w+", each) for each in (step.body, printed))
        assert found == shown, "`make captures`"


def test_each_fence_that_is_not_run_has_a_reason() -> None:
    marked = {
        step.body.splitlines()[0]
        for page in PAGES
        for step in steps(page.read_text(encoding="utf-8"))
        if isinstance(step, Fence) and step.info == "sh not-run"
    }
    assert marked == set(NOT_RUN)


def test_no_fence_has_an_unknown_mark() -> None:
    known = {
        "sh",
        "sh not-run",
        "text",
        "json",
        "toml",
        "python",
        "ini",
        "cron",
        "yaml",
        "dockerfile",
    }
    for page in PAGES:
        found = steps(page.read_text(encoding="utf-8"))
        assert {each.info for each in found if isinstance(each, Fence)} <= known, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_link_to_a_file_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", text):
        name, anchor = target
        found = page.parent / name if name else page
        assert found.exists(), f"{page.name}: {name}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", found.read_text(encoding="utf-8"))
            anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor.removeprefix("#") in anchors, f"{page.name}: {name}{anchor}"


def test_each_program_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for name in re.findall(r"python (\w+/\w+\.py)", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 210
    assert "<!-- run:" not in text, "a reader types only what is shown"
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= set(re.findall(r"\((docs/[^)#]*)", text))
