"""`python -m engine` is `cohortsync`."""

import gc
from typing import NoReturn

from engine.cli import signals


def main() -> NoReturn:
    """Run the command line; a signal during the imports is handled, too."""
    signals.exit_at_once()
    # Imports make many objects that stay: to look for garbage among them that often takes 20 ms.
    gc.set_threshold(20_000, 20, 20)
    from engine.cli.application import main as run  # noqa: PLC0415 - takes as long as a signal may come

    try:
        run()
    finally:
        signals.ignore()  # The interpreter takes a moment to end.


if __name__ == "__main__":
    main()
