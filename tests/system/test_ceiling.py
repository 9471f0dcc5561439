"""The API's own figures in real time, under every kind of limit that "300 a minute" may mean."""

import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from emulated_api import Emulator, emulator
from nightly import CommandLine, Running, assert_balanced

pytestmark = pytest.mark.slow

UIDS = 21_000
"""About 370 payloads of 2,000 bytes: 73 seconds at 300 requests a minute."""
MODELS = {
    "sliding": (),
    "fixed": ("--phase-seconds", f"{random.uniform(0, 60):.1f}"),
    "bucket": ("--burst", "300"),
    "gcra": ("--burst", "5"),
}

Run = tuple[CommandLine, Emulator, Running, set[str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Push under all models at the same time, since each takes more than a minute."""
    begun = {}
    with ExitStack() as stack:
        for model, flags in MODELS.items():
            folder = tmp_path_factory.mktemp(model)
            api = stack.enter_context(emulator(folder, "--limiter", model, *flags))
            cli = CommandLine(folder, api.url)
            cli.configure(limits={"per_seconds": 60.0})
            stack.callback(cli.end)
            planned = cli.write("export.txt", UIDS)
            begun[model] = (cli, api, cli.start_push("export.txt"), planned)
        yield begun


@pytest.mark.parametrize("model", MODELS)
def test_a_run_of_more_than_a_minute_is_never_throttled(
    runs: dict[str, Run], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, api, running, planned = runs[model]
    ended = running.wait()
    accounts, report = ended.document, api.report()
    assert ended.status == 0, ended.stderr
    assert_balanced(accounts)
    assert api.members() == planned
    assert accounts["requests"]["sent"] > 360
    assert report["requests"]["by_status"] == {"200": accounts["requests"]["sent"]}
    assert not report["breaches"]
    with capsys.disabled():
        print(  # noqa: T201 - the proof's figures
            f"\n{model} {' '.join(MODELS[model])}: {accounts['requests']['sent']} requests, "
            "no 429; "
            f"ceiling use {accounts['ceiling_use']:.2%}, {accounts['elapsed_seconds']:.1f} s, "
            f"most in a window {report['workspaces']['NIGHTLY']['most_in_window']}"
        )
