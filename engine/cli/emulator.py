"""`cohortsync emulator`: maps the options to the emulator's settings."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from engine.cli.messages import log, write_message
from engine.cli.options import flat
from engine.errors import UsageError


def _limit(*names: str, **more: Any) -> Any:  # noqa: ANN401  what typer.Option takes and gives
    return typer.Option(*names, rich_help_panel="The rate limit of each workspace", **more)


def _fault(*names: str, **more: Any) -> Any:  # noqa: ANN401  what typer.Option takes and gives
    return typer.Option(*names, rich_help_panel="Faults", **more)


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """The rate limit of each workspace; the fields are those of the emulator's `LimitSettings`."""

    model: Annotated[
        Literal["none", "fixed", "sliding", "bucket", "gcra"],
        _limit("--limiter", help="The kind of window."),
    ] = "sliding"
    requests: Annotated[int, _limit(max=10_000_000, help="Requests in a window.")] = 300
    per_seconds: Annotated[float, _limit(max=86_400, help="The window's length.")] = 60.0
    burst: Annotated[
        int | None,
        _limit(max=10_000_000, help="Requests at once: a bucket's (a window's), gcra's (1)."),
    ] = None
    phase_seconds: Annotated[float, _limit(max=86_400, help="When fixed windows start.")] = 0.0
    count_throttled: Annotated[bool, _limit(help="Whether a 429 takes up room.")] = True
    retry_after: Annotated[
        Literal["seconds", "date", "none"],
        _limit(metavar="FORM", help="The form of a 429's header: seconds, date or none."),
    ] = "none"
    rate_headers: Annotated[bool, _limit("--rate-headers", help="Send X-RateLimit-*.")] = False


@flat
def emulator(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.")] = 8765,
    port_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the port while it listens.")
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let other machines reach HOST.")
    ] = False,
    workspace: Annotated[
        list[str], typer.Option(metavar="ID:KEY", help="A workspace and its key; repeatable.")
    ] = ["DEMO:demo-key"],  # noqa: B006  typer shows it and hands out a list of its own
    blocked: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A suspended workspace; repeatable.")
    ] = None,
    max_bytes: Annotated[
        int, typer.Option(max=1_073_741_824, help="The largest body taken.")
    ] = 131_072,
    known_users: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The users that exist, a uid a line; others do nothing."),
    ] = None,
    count_only: Annotated[
        bool, typer.Option("--count-only", help="Keep no members, so that memory stays flat.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Gets a line a request: seconds since start, status."),
    ] = None,
    limits: LimitOptions,
    seed: Annotated[int, _fault(max=2**63, help="The same seed draws the same faults.")] = 0,
    jitter_ms: Annotated[
        float, _fault(max=86_400_000, help="Most delay before a request counts.")
    ] = 0.0,
    latency_ms: Annotated[float, _fault(max=86_400_000, help="Delay of each answer.")] = 0.0,
    latency_sigma: Annotated[
        float,
        _fault(max=3, help="Makes it lognormal: --latency-ms is the median."),
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        _fault(
            metavar="KIND=SHARE",
            help="A fault of a share of the requests: reset=0.01; with the share that is applied "
            "first: 500=0.03:0.5; with seconds too: hang=0.01:0:30. Kinds: 500, 502, 503, 504, "
            "reset, hang, truncated, partial, html, lie, slow, 429, 413, 401; repeatable.",
        ),
    ] = None,
    fault_at: Annotated[
        list[str] | None,
        _fault(
            metavar="KIND=N",
            help="A fault of certain requests, the first being 1: 413=70, 429=100-150, 401=500-; "
            "repeatable.",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        _fault(metavar="FILE", help="The same, as JSON or TOML: request, fault, applied, seconds."),
    ] = None,
    poison: Annotated[
        list[str] | None, _fault(metavar="UID", help="A uid that is answered by a 400; repeatable.")
    ] = None,
    poison_file: Annotated[
        Path | None, _fault(metavar="FILE", help="More of them, a uid a line.")
    ] = None,
    name_poison: Annotated[bool, _fault(help="Whether that 400 names the uid field.")] = True,
) -> None:
    """Emulate the Cohort Sync API on this machine, until SIGTERM or Ctrl-C.

    Its own count is at /_emulator/report, members at /_emulator/cohorts/COHORT_ID/members.
    """
    from engine import emulator as api

    try:
        limit = asdict(limits)
        limit["model"] = api.LimiterModel(limits.model)
        limit["retry_after"] = api.RetryAfter(limits.retry_after)
        planned = tuple(api.parse_planned(text) for text in fault_at or ())
        poison_uids = frozenset(poison or ())
        faults = api.FaultSettings(
            seed=seed,
            jitter_ms=jitter_ms,
            latency_ms=latency_ms,
            latency_sigma=latency_sigma,
            shares=tuple(api.parse_share(text) for text in fault or ()),
            plan=planned + (api.read_plan(plan) if plan else ()),
            poison_uids=poison_uids | (api.read_uids(poison_file) if poison_file else frozenset()),
            name_poison=name_poison,
        )
        settings = api.EmulatorSettings(
            host=host,
            port=port,
            allow_remote=allow_remote,
            workspaces=_split_workspaces(workspace),
            blocked=frozenset(blocked or ()),
            max_bytes=max_bytes,
            known_users=api.read_uids(known_users) if known_users else None,
            count_only=count_only,
            log=log,
            limits=api.LimitSettings(**limit),
            faults=faults,
        )
        api.serve(settings, port_file=port_file, listens=_write_url)
    except api.EmulatorError as error:
        raise UsageError(error.message, hint=error.hint) from None


def _write_url(url: str) -> None:
    if sys.stderr.isatty():
        write_message(f"emulator listening on {url}")
    else:
        log("info", "listening", url=url)


def _split_workspaces(texts: list[str]) -> dict[str, str]:
    workspaces = {}
    for text in texts:
        workspace, colon, key = text.partition(":")
        if not colon:  # The message does not repeat it: it may be a key.
            raise UsageError("a workspace is given as ID:KEY")
        workspaces[workspace] = key
    return workspaces
