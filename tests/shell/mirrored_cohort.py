"""A cohort that is mirrored again and again in virtual time, and the laws that hold meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crash_scenario import REPLIES
from scripted_server import Play, Request, ScriptedServer
from whole_push import Death, Ended, ListOfChanges, Pushes

from engine.delivery.retry import RetrySettings
from engine.errors import ExitStatus
from engine.model.cohort import Action
from engine.snapshot.settings import MirrorSettings
from engine.source.sql.connection import Connection
from exports import Export, Row

SETTLE = 900.0
ENGINES = {"duckdb": "duckdb", "postgresql": "postgres", "spark": "spark"}
"""The engine of each scheme of a connection."""
UIDS = [f"u{number:04}" for number in range(14)]


@dataclass(frozen=True)
class Lateness:
    """How long after its arrival a request is applied, and perhaps again."""

    seconds: float
    again: float | None = None


@dataclass(frozen=True)
class MirrorRun:
    """One start of the command, and what becomes of it."""

    wanted: frozenset[str]
    replies: tuple[str, ...] = ()
    """The reply to each of its requests, in their order; later ones are accepted."""
    lateness: tuple[Lateness, ...] = ()
    """Of each of its requests, in their order; none thereafter."""
    death: Death | None = None
    signals: tuple[float, ...] = ()
    pause: float = 60.0
    """Seconds since the last one ended."""
    reboots: bool = False
    first_action: Action = Action.REMOVE
    push: Action | None = None
    """None for a mirror; otherwise a push that is recorded does this with them."""
    says: tuple[tuple[str, Action], ...] | None = None
    """The rows of a list of changes, which is mirrored in place of those that are wanted."""


class Cohort:
    """A cohort that is mirrored again and again."""

    def __init__(
        self,
        folder: Path,
        poison: frozenset[str] = frozenset(),
        most_uids: int = 10**9,
        resend_over_nights: int = 0,
        connection: Connection | None = None,
    ) -> None:
        """Compare on this machine, or in the database of `connection`."""
        self.scripted_server = ScriptedServer(poison=poison, most_uids=most_uids)
        self.commands = Pushes(
            folder,
            self.scripted_server,
            uids_per_payload=3,
            retry=RetrySettings(max_attempts=3),
            mirroring=MirrorSettings(settle_seconds=SETTLE, resend_over_nights=resend_over_nights),
        )
        if connection is not None:
            self.compare_on(connection)
        self._pushes = 0

    def compare_on(self, connection: Connection) -> None:
        """Let an engine compare; a lake, if it needs one, is beside its files."""
        engine: Any = ENGINES[connection.scheme]
        self.commands.planning = replace(
            self.commands.planning,
            engine=engine,
            connection=connection.name,
            lake=str(connection.folder / "lake"),
        )
        self.commands.connections = {connection.name: connection}

    @property
    def snapshots(self) -> list[Path]:
        """The files of all its snapshots, the oldest first."""
        return sorted((self.commands.ledger.parent / "snapshots").glob("*/*/0*"))

    def carry_out(self, mirror_run: MirrorRun) -> Ended:
        """Run the command, and hold the laws."""
        self.commands.machine.pause(mirror_run.pause, reboot=mirror_run.reboots)
        self.scripted_server.catch_up(self.commands.machine.now_at_rest)
        self.scripted_server.script = _script(mirror_run)
        if mirror_run.push is not None:
            return self._push(mirror_run, mirror_run.push)
        says = mirror_run.says
        ended = self.commands.mirror(
            sorted(mirror_run.wanted) if says is None else ListOfChanges(says),
            death=mirror_run.death,
            stops_at=mirror_run.signals,
            first_action=mirror_run.first_action,
        )
        assert ended.error is None, ended.error
        if ended.result is not None:
            accounts = ended.result.accounts
            assert accounts.imbalance is None
            assert ended.exit_status is not ExitStatus.UNBALANCED
            assert accounts.mirror is not None
            if says is not None:
                changed = accounts.mirror.add.planned + accounts.mirror.remove.planned
                if accounts.source_complete and not accounts.mirror.undecided:
                    assert changed + accounts.mirror.unchanged == len(dict(says))
            elif (
                accounts.source_complete and accounts.mirror.unchanged + accounts.mirror.add.planned
            ):
                wanted = accounts.mirror.unchanged + accounts.mirror.add.planned
                assert wanted == len(mirror_run.wanted)
        return ended

    def _push(self, mirror_run: MirrorRun, action: Action) -> Ended:
        self._pushes += 1
        # Each uid stands there twice, and whether by the same name decides on going on.
        rows = [Row(uid) for uid in (*sorted(mirror_run.wanted), *sorted(mirror_run.wanted))]
        ended = self.commands.push(
            Export([rows]),
            action,
            death=mirror_run.death,
            stops_at=mirror_run.signals,
            name=f"push-{self._pushes // 2}.csv",
            records=True,
            restart_if_changed=True,
        )
        assert ended.error is None, ended.error
        if ended.result is not None:
            assert ended.result.accounts.imbalance is None
            assert ended.exit_status is not ExitStatus.UNBALANCED
        return ended

    def members(self) -> set[str]:
        """Return who is in once everything is applied, and nothing later."""
        self.scripted_server.catch_up()
        return set(self.scripted_server.members)


def _script(mirror_run: MirrorRun) -> Callable[[Request], Play]:
    replies, lateness = iter(mirror_run.replies), iter(mirror_run.lateness)

    def script(_: Request) -> Play:
        play = REPLIES[next(replies, "fine")]
        late = next(lateness, None)
        if late is None or play.applied_after is None:
            return play
        return Play(
            play.status,
            play.body,
            play.headers,
            play.stage,
            play.error,
            applied_after=late.seconds,
            again_after=late.again,
            seconds=play.seconds,
        )

    return script
