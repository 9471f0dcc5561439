"""The stage of one night: six cohorts over two workspaces, their exports, and who receives notices.

The emulators run in the test's own process, so that a key can be replaced while a sync runs.
"""

import asyncio
import json
import os
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyte
from clean_room import ENGINE, PATIENCE_SECONDS, environment
from nightly import CommandLine
from receiver import Receiver, receiving

from engine.emulator import (
    EmulatorSettings,
    FaultKind,
    FaultSettings,
    LimitSettings,
    PlannedFault,
    running,
)
from engine.emulator.application import Emulator

REQUESTS, PER_SECONDS = 300, 2.0
"""The ceiling: a minute takes two seconds."""
THROTTLED = (380, 439)
"""The requests of one workspace that get a 429: one a minute is sent, so they are an hour."""
POISON = "poison-7f3a"
OLD_KEY, NEW_KEY = "old-data-api-key-1", "new-data-api-key-2"
COLUMNS, LINES = 80, 60

_CONFIGURATION = """
include = ["cohorts.d/*.toml"]

[workspaces.eu]
id = "EUROPE"
api_key_file = "eu.key"
endpoint = "{eu}"
partner = "shop"

[workspaces.us]
id = "AMERICA"
api_key_file = "us.key"
endpoint = "{us}"
partner = "shop"

[limits]
requests = {requests}
per_seconds = {per_seconds}
payload_bytes = 32_000

[retry]
backoff_seconds = 0.05

[mirror]
settle_seconds = 0.2

[guards]
max_additions = 1_000_000

[report]
html = "morning.html"

[metrics]
textfile = "cohortsync.prom"
push_url = "http://{receiver}"

[notify]
urls = ["json://{receiver}/everyone"]
events = ["guard", "failure", "incomplete", "partial", "late", "overdue", "recovery"]
# Not `members`: two cohorts grow to more than thrice their size.

[notify.owners]
crm = "json://{receiver}/crm"
growth = "json://{receiver}/growth"

[pings]
url = "http://{receiver}/ping/S3CRET"

[sync]
after = ["sh", "after.sh", "sync"]
"""

_COHORTS = {
    "eu.toml": """
[cohorts.vip]
name = "VIP customers"
workspace = "eu"
source = "exports/vip.txt"
priority = 2
owner = "crm"
expect_every = "24h"
marker = "done/vip"
after = ["sh", "../after.sh", "vip"]

[cohorts.newsletter]
name = "Newsletter readers"
workspace = "eu"
source = "exports/newsletter.txt"
mode = "add"
priority = 1
owner = "crm"
marker = "done/newsletter"

[cohorts.lapsed]
name = "Lapsed customers"
workspace = "eu"
source = "exports/lapsed.txt"
owner = "crm"
marker = "done/lapsed"
""",
    "us.toml": """
[cohorts.buyers]
name = "Buyers of this year"
workspace = "us"
source = "exports/buyers.txt"
priority = 2
owner = "growth"
marker = "done/buyers"

[cohorts.cart]
name = "Cart abandoners"
workspace = "us"
source = "exports/cart.txt"
mode = "add"
priority = 1
owner = "growth"

[cohorts.prospects]
name = "Prospects"
workspace = "us"
source = "exports/prospects-*.txt"
owner = "growth"
expect_every = "24h"
""",
}
_WORKSPACE_OF = {
    **dict.fromkeys(("vip", "newsletter", "lapsed"), "eu"),
    **dict.fromkeys(("buyers", "cart", "prospects"), "us"),
}


@dataclass
class Night:
    """A configured folder, its two workspaces, and the receiver of notices."""

    cli: CommandLine
    apis: Mapping[str, Emulator]
    """The emulator of each workspace, by the workspace's name."""
    keys: dict[str, str]
    """The key that the second workspace accepts, by its id."""
    receiver: Receiver
    workspaces: Mapping[str, str]
    """The name of each cohort's workspace."""
    _seen: int = 0

    @property
    def exports(self) -> Path:
        return self.cli.folder / "cohorts.d" / "exports"

    def write(self, name: str, first: int, last: int, *further: str) -> set[str]:
        """Write an export of the uids with the numbers from `first` to before `last`."""
        cohort = name.partition("-")[0]
        uids = [*(f"{cohort[:4]:x<4}{number:020x}" for number in range(first, last)), *further]
        (self.exports / f"{name}.txt").write_text("".join(f"{uid}\n" for uid in uids))
        return set(uids)

    def received(self) -> int:
        """Return how many requests all workspaces have received."""
        return sum(each.counts.requests for each in self.apis.values())

    def members(self, cohort: str) -> frozenset[str]:
        return self.apis[self.workspaces[cohort]].members(cohort)

    def replace_key(self) -> None:
        """Replace the key of the second workspace, in its file and in the API."""
        _write_key(self.cli.folder / "us.key", NEW_KEY)
        self.keys["AMERICA"] = NEW_KEY

    def notices(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return the pings since the last call, and the notifications with their recipient."""
        news = self.receiver.requests[self._seen :]
        self._seen += len(news)
        pings = [path.rpartition("/")[2] for _, path, _ in news if path.startswith("/ping/")]
        told = [
            {**json.loads(body), "to": path.strip("/")}
            for _, path, body in news
            if not path.startswith(("/ping/", "/metrics/"))
        ]
        return pings, sorted(told, key=lambda each: each["to"])

    def pushed_metrics(self) -> str:
        """Return what the push gateway got last."""
        return [body for _, path, body in self.receiver.requests if path.startswith("/metrics/")][
            -1
        ]

    def followed(self) -> list[str]:
        """Return what the commands that follow cohorts and syncs have written."""
        lines = (self.cli.folder / "after.log").read_text().splitlines()
        return [line.rstrip() for line in lines]

    def markers(self) -> set[str]:
        return {each.name for each in (self.cli.folder / "cohorts.d" / "done").iterdir()}

    async def ask(self, *arguments: str) -> tuple[int, Any]:
        """Return the exit status and the JSON document of a command."""
        ended = await asyncio.to_thread(self.cli.spawn, *arguments, "--json")
        return ended.status, json.loads(ended.stdout)

    async def on_terminal(self, *arguments: str) -> tuple[int, list[str]]:
        """Run a command on a terminal; return its exit status and the lines that it left there."""
        return await asyncio.to_thread(run_on_terminal, self.cli, *arguments)


@asynccontextmanager
async def one_night(folder: Path) -> AsyncIterator[Night]:
    """Run both workspaces and the receiver, and configure the folder for them."""
    limits = LimitSettings(requests=REQUESTS, per_seconds=PER_SECONDS)
    keys = {"AMERICA": OLD_KEY}
    settings = {
        "eu": EmulatorSettings(
            port=0,
            workspaces={"EUROPE": OLD_KEY},
            limits=limits,
            faults=FaultSettings(
                plan=(PlannedFault(FaultKind.THROTTLED, *THROTTLED),),
                poison_uids=frozenset({POISON}),
            ),
        ),
        "us": EmulatorSettings(port=0, workspaces=keys, limits=limits),
    }
    async with AsyncExitStack() as held:
        apis = {
            name: await held.enter_async_context(running(each)) for name, each in settings.items()
        }
        receiver = await held.enter_async_context(receiving())
        cli = CommandLine(folder, "")
        held.callback(cli.end)
        urls = {name: each.url for name, each in apis.items()}
        _configure(folder, receiver=receiver.address, **urls)
        emulators = {name: each.emulator for name, each in apis.items()}
        yield Night(cli, emulators, keys, receiver, _WORKSPACE_OF)


def _configure(folder: Path, **addresses: str) -> None:
    text = _CONFIGURATION.format(**addresses, requests=REQUESTS, per_seconds=PER_SECONDS)
    (folder / "config.toml").write_text(text)
    (folder / "cohorts.d" / "exports").mkdir(parents=True)
    for name, cohorts in _COHORTS.items():
        (folder / "cohorts.d" / name).write_text(cohorts)
    (folder / "after.sh").write_text(
        'echo "$1 $COHORTSYNC_EXIT_STATUS $COHORTSYNC_STATUS $COHORTSYNC_MEMBERS" '
        '>> "$(dirname "$0")/after.log"\n'
    )
    for workspace in ("eu", "us"):
        _write_key(folder / f"{workspace}.key", OLD_KEY)


def _write_key(path: Path, key: str) -> None:
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(f"{key}\n")
    draft.replace(path)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something to become true, while the emulators go on."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.01)


def run_on_terminal(cli: CommandLine, *arguments: str) -> tuple[int, list[str]]:
    """Run a command on a terminal; return its exit status and the lines left there."""
    own, its = os.openpty()
    termios.tcsetwinsize(its, (LINES, COLUMNS))
    variables = {"TERM": "xterm", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [*ENGINE, *arguments],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(cli.folder, **variables),
        cwd=cli.folder,
    )
    os.close(its)
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    with suppress(OSError):  # The system's answer once no process has the terminal open.
        while chunk := os.read(own, 65_536):
            stream.feed(chunk)
    os.close(own)
    lines = [line.rstrip() for line in screen.display]
    return process.wait(PATIENCE_SECONDS), lines[: screen.cursor.y]
