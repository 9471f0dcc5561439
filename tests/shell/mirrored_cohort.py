"""A cohort that is mirrored night after night in virtual time, and the laws that hold meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from far_side import FarSide, Play, Request
from night_of_crashes import WEATHER
from whole_push import Death, Ended, Pushes

from engine.delivery.retry import RetrySettings
from engine.errors import ExitStatus
from engine.model.cohort import Action
from engine.snapshot.settings import MirrorSettings
from exports import Export, Row

SETTLE = 900.0
UIDS = [f"u{number:04}" for number in range(14)]


@dataclass(frozen=True)
class Lateness:
    """How long after its arrival a request is applied, and perhaps again."""

    seconds: float
    again: float | None = None


@dataclass(frozen=True)
class Night:
    """One start of the command, and what becomes of it."""

    wanted: frozenset[str]
    weather: tuple[str, ...] = ()
    """What each of its requests meets, in their order; fine thereafter."""
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


class Cohort:
    """A cohort that is mirrored night after night."""

    def __init__(
        self,
        folder: Path,
        poison: frozenset[str] = frozenset(),
        most_uids: int = 10**9,
        resend_over_nights: int = 0,
    ) -> None:
        self.far_side = FarSide(poison=poison, most_uids=most_uids)
        self.commands = Pushes(
            folder,
            self.far_side,
            uids_per_payload=3,
            retry=RetrySettings(max_attempts=3),
            mirroring=MirrorSettings(settle_seconds=SETTLE, resend_over_nights=resend_over_nights),
        )
        self._pushes = 0

    @property
    def snapshots(self) -> list[Path]:
        """The files of all its snapshots, the oldest first."""
        return sorted((self.commands.ledger.parent / "snapshots").glob("*/*/*.parquet"))

    def spend(self, night: Night) -> Ended:
        """Run the command, and hold the laws."""
        self.commands.machine.pause(night.pause, reboot=night.reboots)
        self.far_side.catch_up(self.commands.machine.now_at_rest)
        self.far_side.script = _script(night)
        if night.push is not None:
            return self._push(night, night.push)
        ended = self.commands.mirror(
            sorted(night.wanted),
            death=night.death,
            stops_at=night.signals,
            first_action=night.first_action,
        )
        assert ended.error is None, ended.error
        if ended.result is not None:
            accounts = ended.result.accounts
            assert accounts.imbalance is None
            assert ended.exit_status is not ExitStatus.UNBALANCED
            assert accounts.mirror is not None
            if accounts.source_complete and accounts.mirror.unchanged + accounts.mirror.add.planned:
                wanted = accounts.mirror.unchanged + accounts.mirror.add.planned
                assert wanted == len(night.wanted)
        return ended

    def _push(self, night: Night, action: Action) -> Ended:
        self._pushes += 1
        # Each uid stands there twice, and whether by the same name decides on going on.
        rows = [Row(uid) for uid in (*sorted(night.wanted), *sorted(night.wanted))]
        ended = self.commands.push(
            Export([rows]),
            action,
            death=night.death,
            stops_at=night.signals,
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
        self.far_side.catch_up()
        return set(self.far_side.members)


def _script(night: Night) -> Callable[[Request], Play]:
    weather, lateness = iter(night.weather), iter(night.lateness)

    def script(_: Request) -> Play:
        play = WEATHER[next(weather, "fine")]
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
