"""`cohortsync why`: prints what the records show about one uid."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from engine.cli.cohort_options import KnownCohortOptions
from engine.cli.options import JsonOption, TargetOptions, flat
from engine.cli.streams import print_json, print_lines, printing


@flat
def why(
    *,
    uid: Annotated[str, typer.Argument(help="The uid, byte for byte.")],
    cohort: KnownCohortOptions,
    target: TargetOptions,
    as_json: JsonOption = False,
) -> None:
    """Show whether a uid is in a mirrored cohort, since when, and by which request."""
    named = cohort.named()
    found = target.call(lambda engine: engine.why(uid, **named), need_credentials=False)
    answer = found.to_dict()
    with printing():
        if as_json:
            print_json(answer)
            return
        print_lines(lines_of(answer), indent=9)


def lines_of(answer: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that describe an answer."""
    known = f", by generation {answer['generation']}" if answer["generation"] else ""
    cohort, pushed = answer["cohort_id"], answer["pushed"]
    if pushed and answer["membership"] == "not mirrored":
        yield f"{answer['uid']}: cohort {cohort} was pushed, not mirrored: its uids are not kept"
    else:
        yield f"{answer['uid']}: {_WORDS[answer['membership']]} {cohort}{known}"
    if pushed:
        earlier = f", the last of {pushed['runs']:,} such runs" if pushed["runs"] > 1 else ""
        yield (
            f"pushed   {pushed['at']}: {pushed['action']} in run {pushed['run']} "
            f"({pushed['status']}){earlier}; a push with --record keeps its uids"
        )
    since = answer["since"]
    if since and "batch" in since:
        status = f" ({since['http_status']})" if since["http_status"] else ""
        yield (
            f"since    {since['at']}: {since['action']} in run {since['run']}, batch "
            f"{since['batch']}, attempt {since['attempt']}: {since['outcome'] or 'under way'}"
            f"{status}"
        )
    elif since and "origin" in since:
        yield f"since    {since['at']}: by generation {since['generation']}, {since['origin']}"
    elif since:
        yield f"since    {since['at']}: run {since['run']}, whose batches are no longer kept"
    last = answer["last_export"]
    if last and "planned" in last:
        had_it = f"had it, to {last['planned']}" if last["planned"] else "did not change it"
        yield f"export   {last['at']}: the list of changes of run {last['run']} {had_it}"
    elif last:
        had = {True: "had it", False: "did not have it", None: "is no longer known"}
        yield f"export   {last['at']}: that of run {last['run']} {had[last['had_it']]}"
    for rejection in answer["rejections"]:
        yield (
            f"rejected {rejection['at']}: run {rejection['run']}, {rejection['reason']}, "
            f"request {rejection['request_id'] or '-'}"
        )


_WORDS = {
    "in": "in cohort",
    "out": "not in cohort",
    "unknown": "it is unknown whether it is in cohort",
    "not mirrored": "there is no snapshot of cohort",
}
