"""What the system's tests share: an emulator a worker, and a night a test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from emulated_api import Emulator, emulator
from nightly import Night

LIMITS = ("--requests", "300", "--per-seconds", "2")
"""Those of `Night.configure`."""


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
def night(api: Emulator, tmp_path: Path) -> Iterator[Night]:
    """Make a configured folder that sends to `api`."""
    begun = Night(tmp_path, api.url)
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
