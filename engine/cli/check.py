"""`cohortsync check`: the preflight, shown as text or as one JSON document."""

import sys
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.messages import level_of, log
from engine.cli.options import JsonOption, TargetOptions, flat
from engine.cli.signs import has_colors
from engine.cli.streams import fitted, print_json, printing
from engine.model.foreign_text import printable

if TYPE_CHECKING:
    from engine import Finding

_COLORS = {
    "ok": typer.colors.GREEN,
    "failed": typer.colors.RED,
    "skipped": typer.colors.YELLOW,
    "note": typer.colors.YELLOW,
}


@flat
def check(
    *,
    target: TargetOptions,
    live: Annotated[
        bool, typer.Option("--live", help="Test the key by one request that is invalid on purpose.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check whether runs could start: configuration, state folder, connection, exports, notices.

    Without --workspace all workspaces are checked. That an export is not there yet is only a note.
    Nobody is notified, and no command is started.
    The key can't be tested without sending; with --live one request is sent that names no members:
    400 means that the key is valid, 401 that it is not.

    Exit status: 0 all good; 2 configuration, state folder, proxy or certificate; 3 the API refuses
    the key; 75 the endpoint can't be reached.
    """
    shown: list[str | None] = [None]

    def show(finding: "Finding") -> None:
        if as_json:
            return
        with printing():
            if finding.workspace not in {None, shown[-1]}:
                typer.echo(f"workspace {finding.workspace}")
                shown.append(finding.workspace)
            _show(finding)

    result = target.call(lambda engine: engine.check(live=live, found=show), lazy=True)
    status = result.exit_status
    if as_json:
        with printing():
            print_json(result.to_dict())
    if status and not sys.stderr.isatty():
        failed = [each for each in result.findings if each.verdict == "failed"]
        reason = "; ".join(f"{each.name}: {each.detail}" for each in failed)
        log(level_of(status), "ended", status="failed", exit_status=int(status), reason=reason)
    raise typer.Exit(status)


def _show(finding: "Finding") -> None:
    verdict = f"{finding.verdict:<8}"
    if has_colors(sys.stdout):
        verdict = typer.style(verdict, fg=_COLORS[finding.verdict])
    lines = finding.detail.split("\n")
    if finding.hint:
        lines.append(f"hint: {finding.hint}")
    pieces = (fitted(printable(line), before=_INDENT) for line in lines)
    first, *more = chain.from_iterable(pieces)
    typer.echo(f"{verdict} {finding.name:<14} {first}")
    for line in more:
        typer.echo(f"{'':<{_INDENT}}{line}")


_INDENT = 24
"""Columns before the detail of a finding."""
