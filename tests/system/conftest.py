"""What the system's tests share: an emulator a worker, and a configured folder a test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from emulated_api import Emulator, emulator
from nightly import CommandLine

LIMITS = ("--requests", "300", "--per-seconds", "2")
"""Those of `CommandLine.configure`."""


@pytest.fixture(scope="session")
def shared_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("emulator"), *LIMITS) as running:
        yield running


@pytest.fixture
def api(shared_emulator: Emulator) -> Emulator:
    """Return an emulator that has seen nothing."""
    shared_emulator.reset()
    return shared_emulator


@pytest.fixture
def cli(api: Emulator, tmp_path: Path) -> Iterator[CommandLine]:
    """Make a configured folder that sends to `api`."""
    begun = CommandLine(tmp_path, api.url)
    begun.configure()
    yield begun
    begun.end()


@pytest.fixture
def emulate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Emulator]]:
    """Start emulators with flags of their own."""
    with ExitStack() as stack:

        def start(*flags: str) -> Emulator:
            folder = tmp_path_factory.mktemp("emulator")
            return stack.enter_context(emulator(folder, *LIMITS, *flags))

        yield start
