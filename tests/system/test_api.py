"""What the API returns is what the command line prints, for every command."""

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, chdir, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from clean_room import API_KEY
from emulated_api import COHORT, Emulator
from nightly import TARGET, CommandLine

from engine import (
    Cohort,
    CohortSyncError,
    Engine,
    ExitStatus,
    NothingToResume,
    RunResult,
    Snapshots,
    StopSwitch,
    events,
)
from engine.errors import ConfigError, UsageError
from engine.ledger.sqlite.schema import open_for_reading

VIP = Cohort(COHORT, "Night")
COHORT_ID = ("--cohort-id", COHORT)
LIFT = ("--allow", "shape", "--reason", "another list")


def document(result: Any) -> Any:  # noqa: ANN401 - any result of the API
    """Return a result as it reads after JSON."""
    plain = [each.to_dict() for each in result] if isinstance(result, list) else result.to_dict()
    return json.loads(json.dumps(plain))


@pytest.fixture
def returned() -> Iterator[list[Any]]:
    """Keep what the methods of the API return while commands run."""
    kept: list[Any] = []

    def recorded(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: object, **options: object) -> Any:  # noqa: ANN401 - as it returns
            kept.append(await method(*arguments, **options))
            return kept[-1]

        return call

    with ExitStack() as patches:
        for owner, names in (
            (Engine, ("push", "mirror", "apply", "rollback", "resume", "resume_all")),
            (Engine, ("runs", "show", "why", "check")),
            (Snapshots, ("entries", "verify", "import_", "compare", "adopt", "reconcile")),
        ):
            for name in names:
                method = recorded(getattr(owner, name))
                patches.enter_context(patch.object(owner, name, method))
        yield kept


def test_each_command_prints_the_document_of_its_result(
    cli: CommandLine, returned: list[Any], api: Emulator
) -> None:
    cli.configure(mirror={"settle_seconds": 0.0}, guards={"max_removals": 1.0})
    cli.write("first.txt")
    cli.write("second.txt", 200)
    carried = str(cli.folder / "carried.parquet")

    def compare(*words: str, status: int = 0, is_list: bool = False) -> Any:  # noqa: ANN401 - JSON
        ended = cli.run(*words, "--json")
        assert ended.status == status, ended.stderr
        printed = json.loads(ended.stdout)
        output = document(returned[-1])
        assert printed == ([output] if is_list else output), words
        return printed

    compare("push", "first.txt", *TARGET, "--dry-run")
    compare("push", "first.txt", "--cohort-id", "b", "--cohort-name", "B")
    planned = compare("plan", "first.txt", *TARGET)
    compare("apply", planned["run"], "--first", "10")
    compare("apply", planned["run"])
    compare("mirror", "second.txt", *TARGET, status=4)
    compare("mirror", "second.txt", *TARGET, *LIFT)
    compare("mirror", "second.txt", *TARGET, "--shadow")
    compare("rollback", *COHORT_ID, "--to", "1", "--dry-run", *LIFT)
    compare("resume")
    compare("resume", "--all")
    compare("runs")
    compare("show", planned["run"])
    compare("why", "second.txt-uid-000001", *COHORT_ID)
    compare("check")
    compare("snapshot", "list", *COHORT_ID)
    compare("snapshot", "verify", *COHORT_ID)
    compare("snapshot", "compare", "first.txt", *COHORT_ID)
    assert cli.run("snapshot", "export", carried, *COHORT_ID).status == 0
    compare("snapshot", "import", carried, *COHORT_ID, is_list=True)
    compare("snapshot", "adopt", "first.txt", *COHORT_ID, is_list=True)
    compare("snapshot", "reconcile", "second.txt", *COHORT_ID, is_list=True)
    assert len(api.members()) == 200


@pytest.fixture(autouse=True)
def _no_ledger_is_read_in_the_event_loop() -> Iterator[None]:
    """Fail a test in which a ledger is opened, and so checked, in the thread of an event loop."""
    in_loop: list[str] = []

    def opened(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as it has them
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            in_loop.extend(each.name for each in traceback.extract_stack(limit=8))
        return open_for_reading(*arguments, **options)

    with patch("engine.ledger.sqlite.reader.open_for_reading", opened):
        yield
    assert not in_loop


def test_rejects_and_an_unfinished_run_too(
    cli: CommandLine, returned: list[Any], emulate: Callable[..., Emulator]
) -> None:
    cli.url = emulate("--fault-at", "401=2").url
    cli.configure(delivery={"max_in_flight": 1})
    (cli.folder / "a.csv").write_text("uid\n" + "\n".join(f"u{n}" for n in range(300)) + "\n\n")
    assert cli.push("a.csv", "--column", "uid").status == 3
    resumed = cli.run("resume", "--all", "--json")
    assert resumed.document == document(returned[-1])
    run = resumed.document["runs"][0]["run"]

    async def rejects() -> list[dict[str, Any]]:
        async with engine_of(cli, lazy=True) as engine:
            return [each.to_dict() async for each in engine.rejects(run)]

    assert cli.rejects(run) == asyncio.run(rejects())


def engine_of(cli: CommandLine, **options: Any) -> Any:  # noqa: ANN401 - what `Engine.open` takes and gives
    environ = {"MOENGAGE_API_KEY": API_KEY}
    return Engine.open(cli.folder / "config.toml", environ=environ, **options)


# What a program has besides: observers, a stop, errors, and a choice of what is needed.


async def test_observers_hear_of_a_run(cli: CommandLine, api: Emulator) -> None:
    planned = cli.write("export.txt")
    heard: list[events.RunEvent] = []
    opened: list[str | None] = []
    async with engine_of(cli) as engine:
        result = await engine.push(
            str(cli.folder / "export.txt"),
            VIP,
            observe=heard.append,
            opened=lambda opening: opened.append(opening.run),
        )
    assert (result.exit_status, result.accounts.uids.accepted) == (ExitStatus.ACCEPTED, 300)
    assert opened == [result.accounts.run]
    settled = [each.event.uid_count for each in heard if isinstance(each.event, events.Settled)]
    assert sum(settled) == 300
    assert {each.source.run for each in heard} == {result.accounts.run}
    assert api.members() == planned


async def test_a_stop_keeps_the_accounts_and_the_run_is_resumed(
    cli: CommandLine, api: Emulator
) -> None:
    planned = cli.write("export.txt")
    switch = StopSwitch()
    async with engine_of(cli) as engine:
        stopped = await engine.push(
            cli.folder / "export.txt",
            VIP,
            switch=switch,
            opened=lambda _: switch.pull("enough"),
        )
        assert (stopped.exit_status, stopped.accounts.reason) == (ExitStatus.INCOMPLETE, "enough")
        resumed = await engine.resume()
        assert isinstance(resumed, RunResult)
        assert resumed.accounts.run == stopped.accounts.run
        assert isinstance(await engine.resume(), NothingToResume)
    assert api.members() == planned


async def test_a_cancelled_run_has_written_its_accounts(cli: CommandLine) -> None:
    cli.write("export.txt")
    async with engine_of(cli) as engine:
        task: asyncio.Task[RunResult] = asyncio.create_task(
            engine.push(cli.folder / "export.txt", VIP, opened=lambda _: task.cancel())
        )
        with pytest.raises(asyncio.CancelledError):
            await task
        [accounts] = await engine.runs()
        assert (accounts.status, accounts.reason) == ("incomplete", "cancelled")
        resumed = await engine.resume()
        assert resumed.exit_status is ExitStatus.ACCEPTED


async def test_what_is_wrong_is_raised(cli: CommandLine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-such\.toml"):
        async with Engine.open(tmp_path / "no-such.toml"):
            pass
    (cli.folder / "state").mkdir()
    async with engine_of(cli, need_credentials=False) as engine:
        with pytest.raises(CohortSyncError):
            await engine.push(cli.folder / "missing.txt", VIP)
        with pytest.raises(UsageError, match="--reason"):
            await engine.mirror("export.txt", VIP, allow=["shape"])
        with pytest.raises(UsageError, match="exclude each other"):
            await engine.plan("export.txt", VIP, assume_empty=True, trust=1)
        with pytest.raises(UsageError, match="no run"):
            await engine.show("nothing")
        with pytest.raises(TypeError, match="colum"):
            await engine.push("export.txt", VIP, colum="uid")
    cli.write("export.txt")
    async with engine_of(cli, need_credentials=False) as engine:
        with pytest.raises(ConfigError, match="key"):
            await engine.push(cli.folder / "export.txt", VIP)


async def test_a_lazy_engine_reads_what_it_needs(cli: CommandLine) -> None:
    (cli.folder / "config.toml").write_text("[workspace]\nid = 3\n")
    (cli.folder / "state").mkdir()
    async with engine_of(cli, lazy=True, state=cli.folder / "state") as engine:
        assert await engine.runs() == []
        result = await engine.check()
        assert result.exit_status is ExitStatus.USAGE
        with pytest.raises(ConfigError):
            await engine.push("export.txt", VIP)


async def test_rejects_can_be_left_early(cli: CommandLine) -> None:
    (cli.folder / "export.txt").write_text("u1\n" + "\n" * 5_000)
    async with engine_of(cli) as engine:
        with chdir(cli.folder):
            result = await engine.push("export.txt", VIP)
        found = engine.rejects(result.accounts.run)
        first = await anext(found)
        await found.aclose()
        assert (first.kind, first.record) == ("blank", 2)


@pytest.mark.parametrize("is_used", [False, True])
async def test_a_closed_engine_has_ended_its_runs_and_begins_none(
    cli: CommandLine, *, is_used: bool
) -> None:
    cli.configure(limits={"requests": 2, "per_seconds": 2.0})
    cli.write("export.txt", 2_000)
    export = cli.folder / "export.txt"
    opened = asyncio.Event()
    async with engine_of(cli) as engine:
        if is_used:
            run = asyncio.create_task(engine.push(export, VIP, opened=lambda _: opened.set()))
            await opened.wait()
    if is_used:
        assert run.done()
        accounts = run.result().accounts
        assert (accounts.status, accounts.reason) == ("incomplete", "the engine was closed")
        assert [each.status for each in await engine.runs()] == ["incomplete"]
    for start in (engine.push(export, VIP), engine.mirror(export, VIP), engine.resume()):
        with pytest.raises(UsageError, match="the engine was closed"):
            await start
