"""`cohortsync emulator`: the flags, read as the emulator's settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import UsageError

if TYPE_CHECKING:  # the emulator brings a web server along, which no other command's start needs
    from engine.emulator import FaultKind, FaultShare

_LIMITS = "The rate limit of each workspace"
_FAULTS = "Faults"
_SHARE = "SHARE[:APPLIED]"


def emulator(  # noqa: PLR0913  one parameter for each flag
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.")] = 8765,
    port_file: Annotated[
        Path | None, typer.Option(help="File that holds the port while it listens.")
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let HOST be reachable from other machines.")
    ] = False,
    workspace: Annotated[
        list[str], typer.Option(metavar="ID:KEY", help="A workspace and its key; repeatable.")
    ] = ["DEMO:demo-key"],  # noqa: B006  typer shows it and hands out a new list
    blocked: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A suspended workspace; repeatable.")
    ] = None,
    max_bytes: Annotated[int, typer.Option(help="The largest body taken.")] = 131_072,
    known_users: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The users that exist, a uid a line; others are ignored."
        ),
    ] = None,
    count_only: Annotated[
        bool, typer.Option("--count-only", help="Keep no members, so that memory stays flat.")
    ] = False,
    limiter: Annotated[
        str, typer.Option(metavar="none|fixed|sliding|bucket|gcra", rich_help_panel=_LIMITS)
    ] = "sliding",
    requests: Annotated[
        int, typer.Option(help="Requests in a window.", rich_help_panel=_LIMITS)
    ] = 300,
    per_seconds: Annotated[
        float, typer.Option(help="Length of the window.", rich_help_panel=_LIMITS)
    ] = 60.0,
    burst: Annotated[
        int | None,
        typer.Option(
            help="Requests at once: bucket (a window's unless set), gcra (1 unless set).",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    phase_seconds: Annotated[
        float, typer.Option(help="When fixed windows start.", rich_help_panel=_LIMITS)
    ] = 0.0,
    count_throttled: Annotated[
        bool, typer.Option(help="Whether a 429 takes up room too.", rich_help_panel=_LIMITS)
    ] = True,
    retry_after: Annotated[
        str,
        typer.Option(
            metavar="seconds|date|none", help="Retry-After of a 429.", rich_help_panel=_LIMITS
        ),
    ] = "none",
    rate_headers: Annotated[
        bool,
        typer.Option("--rate-headers", help="Send X-RateLimit headers.", rich_help_panel=_LIMITS),
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same faults.", rich_help_panel=_FAULTS)] = 0,
    jitter_ms: Annotated[
        float, typer.Option(help="Most delay on the way in.", rich_help_panel=_FAULTS)
    ] = 0.0,
    latency_ms: Annotated[
        float, typer.Option(help="Delay of each answer.", rich_help_panel=_FAULTS)
    ] = 0.0,
    error_share: Annotated[
        str | None,
        typer.Option(
            metavar=_SHARE,
            help="Share answered ERROR-STATUS: 0.03, or 0.03:0.5 where half are applied first.",
            rich_help_panel=_FAULTS,
        ),
    ] = None,
    error_status: Annotated[
        list[str],
        typer.Option(
            metavar="500|502|503|504", help="Repeatable; in equal parts.", rich_help_panel=_FAULTS
        ),
    ] = ["500"],  # noqa: B006  typer shows it and hands out a new list
    reset_share: Annotated[
        str | None,
        typer.Option(metavar=_SHARE, help="Share reset unanswered.", rich_help_panel=_FAULTS),
    ] = None,
    hang_share: Annotated[
        str | None,
        typer.Option(metavar=_SHARE, help="Share never answered.", rich_help_panel=_FAULTS),
    ] = None,
    hang_seconds: Annotated[
        float, typer.Option(help="When a hanging request is reset.", rich_help_panel=_FAULTS)
    ] = 600.0,
    slow_share: Annotated[
        str | None,
        typer.Option(metavar=_SHARE, help="Share answered late.", rich_help_panel=_FAULTS),
    ] = None,
    slow_seconds: Annotated[
        float, typer.Option(help="How late that is.", rich_help_panel=_FAULTS)
    ] = 1.0,
    truncated_share: Annotated[
        str | None,
        typer.Option(
            metavar=_SHARE,
            help="Share whose 200 is cut off in its middle.",
            rich_help_panel=_FAULTS,
        ),
    ] = None,
    partial_share: Annotated[
        str | None,
        typer.Option(
            metavar=_SHARE, help="Share whose 200 is half the JSON.", rich_help_panel=_FAULTS
        ),
    ] = None,
    html_share: Annotated[
        str | None,
        typer.Option(
            metavar=_SHARE, help="Share whose 200 is a web page.", rich_help_panel=_FAULTS
        ),
    ] = None,
    lie_share: Annotated[
        str | None,
        typer.Option(
            metavar=_SHARE, help="Share whose 200 says that it failed.", rich_help_panel=_FAULTS
        ),
    ] = None,
    applied_share: Annotated[
        float,
        typer.Option(
            help="How many of the shares above are applied first, where they do not say.",
            rich_help_panel=_FAULTS,
        ),
    ] = 0.0,
    poison: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UID", help="A uid refused with a 400; repeatable.", rich_help_panel=_FAULTS
        ),
    ] = None,
    poison_file: Annotated[
        Path | None, typer.Option(help="More of them, a uid a line.", rich_help_panel=_FAULTS)
    ] = None,
    name_poison: Annotated[
        bool,
        typer.Option(help="Whether that 400 names the uid field.", rich_help_panel=_FAULTS),
    ] = True,
    unauthorized_after: Annotated[
        int | None,
        typer.Option(metavar="N", help="Answer 401 after request N.", rich_help_panel=_FAULTS),
    ] = None,
    too_large_at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N", help="Answer 413 at request N or N-M; repeatable.", rich_help_panel=_FAULTS
        ),
    ] = None,
    storm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N-M",
            help="Answer 429 from request N to M; repeatable.",
            rich_help_panel=_FAULTS,
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Faults of certain requests, as JSON or TOML: request, fault, applied, seconds.",
            rich_help_panel=_FAULTS,
        ),
    ] = None,
) -> None:
    """Stand in for the Cohort Sync API on this machine, until SIGTERM or Ctrl-C."""
    from engine import emulator as api  # noqa: PLC0415  only this command needs a web server

    shares = {
        api.FaultKind.RESET: reset_share,
        api.FaultKind.HANG: hang_share,
        api.FaultKind.SLOW: slow_share,
        api.FaultKind.TRUNCATED: truncated_share,
        api.FaultKind.PARTIAL: partial_share,
        api.FaultKind.HTML: html_share,
        api.FaultKind.LIE: lie_share,
    }
