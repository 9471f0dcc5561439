"""The state folder of a process that died halfway, to be harmed in every way a disk can."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from scripted_server import ACCEPT, Play, Request, ScriptedServer
from stage import numbered
from whole_push import Death, Ended, Machine, Pushes

from engine.errors import ExitStatus
from engine.storage.paths import LEDGER_NAME
from exports import Export

WAL_NAME = f"{LEDGER_NAME}-wal"
EXPORT = numbered(40)
POISON = frozenset({"u0009"})
WANTED = set(EXPORT.uids) - POISON


@dataclass(frozen=True)
class CrashedState:
    """A ledger's files, and what the API holds at that moment."""

    files: dict[str, bytes]
    members: frozenset[str]
    now: float

    def laid_out(self, folder: Path, files: dict[str, bytes] | None = None) -> Pushes:
        """Lay out the files, harmed perhaps, for the same command to go on with."""
        machine = Machine(now_at_rest=self.now)
        pushes = Pushes(folder, ScriptedServer(set(self.members), poison=POISON), machine=machine)
        for name, content in (self.files if files is None else files).items():
            pushes.ledger.with_name(name).write_bytes(content)
        return pushes

    def with_file(self, name: str, content: bytes) -> dict[str, bytes]:
        """Return the files, one of them replaced."""
        return {**self.files, name: content}


def make_crashed_state() -> CrashedState:
    """Crash, stop and crash again: part of the ledger is in its file, part in the log beside it."""

    def script(request: Request) -> Play:
        return Play(500) if request.number % 6 == 5 else ACCEPT

    with TemporaryDirectory() as folder:
        pushes = Pushes(Path(folder), ScriptedServer(script=script, poison=POISON))
        assert pushes.push(EXPORT, death=Death("arrived", 3)).died
        assert pushes.push(EXPORT, stops_at=(0.5,)).exit_status is ExitStatus.INCOMPLETE
        assert pushes.push(EXPORT, death=Death("arrived", 5)).died
        found = pushes.ledger.parent.iterdir()
        files = {file.name: file.read_bytes() for file in found if file.is_file()}
        assert WAL_NAME in files
        members = frozenset(pushes.scripted_server.members)
        assert 0 < len(members) < len(WANTED)
        return CrashedState(files, members, pushes.machine.now_at_rest + 1)


def range_outcome_of(pushes: Pushes, export: Export = EXPORT) -> str:
    """Run the same command, and return how it ended; a wrong answer fails."""
    ended = pushes.push(export)
    if ended.exit_status in {ExitStatus.ACCEPTED, ExitStatus.PARTIAL}:
        assert ended.exit_status is ExitStatus.PARTIAL  # There is a poisonous uid.
        wanted = set(export.uids) - POISON
        assert pushes.scripted_server.members == wanted
        assert ended.result
        assert ended.result.accounts.imbalance is None
        assert ended.result.accounts.uids.accepted == len(wanted)
        return "exact"
    return _refusal(ended)


def _refusal(ended: Ended) -> str:
    """Return what kind of refusal it was; one that says nothing helpful fails."""
    if ended.error is not None:
        assert ended.error.message
        assert ended.error.hint
        return type(ended.error).__name__
    assert ended.result
    assert ended.result.accounts.reason
    assert ended.result.hint
    assert ended.exit_status is not None
    return ended.exit_status.name
