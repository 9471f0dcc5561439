"""Prints the result of a sync on stdout."""

from collections.abc import Iterator

from engine import CohortResult, ExitStatus, SyncResult
from engine.cli.messages import write_traceback
from engine.cli.streams import print_json, print_lines, printing


def print_sync(result: SyncResult, *, as_json: bool) -> None:
    """Print the JSON document, or lines for people: the verdict of each cohort."""
    for each in result.cohorts:
        if each.bug is not None:
            write_traceback(each.bug)
    with printing():
        if as_json:
            print_json(result.to_dict())
        else:
            print_lines((line for each in result.cohorts for line in _lines(each)), indent=2)


def _lines(result: CohortResult) -> Iterator[str]:
    sign = "\N{CHECK MARK}" if result.exit_status is ExitStatus.ACCEPTED else "\N{BALLOT X}"
    yield f"{sign} {result.cohort_name}: {result.status.value}"
    if result.reason:
        yield f"  {result.reason}"
    if result.hint:
        yield f"  hint: {result.hint}"
