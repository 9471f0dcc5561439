"""The lines that a terminal shows of a running sync, at any width."""

from collections import Counter
from collections.abc import Iterator

from engine.cli.sync_progress import CohortProgress, SyncProgress, WorkspaceProgress
from engine.cli.text import clock_duration, compact, shortened
from engine.model.quantity import counted

_WIDE, _MIDDLE = 110, 72
"""From so many columns on, counts are exact; below the second, no rate is shown."""
_STATE = 16
_FEWEST_COHORTS = 3


def rows(
    progress: SyncProgress, width: int, height: int, now: float, utc_ns: int
) -> Iterator[tuple[str, str]]:
    """Yield each line with its style: the cohorts, those that wait by their number, the ceilings.

    At most `height` lines, except that at least three cohorts are shown. `now` is in seconds of the
    clock of the progress.
    """
    ceilings = [
        line for each in progress.workspaces.values() for line in _workspace_lines(each, width, now)
    ]
    most = max(_FEWEST_COHORTS, height - len(ceilings) - 1)
    left = progress.open_cohorts
    for cohort in left[:most]:
        yield shortened(_cohort_line(cohort, width, now, utc_ns), width), ""
    if more := left[most:]:
        yield shortened(_count_line(more, len(progress.results), now), width), "dim"
    elif progress.results and len(progress.cohorts) > 1:
        yield (
            f"{len(progress.results):,} of {counted(len(progress.cohorts), 'cohort')} ended",
            "dim",
        )
    yield from ceilings


def _count_line(more: list[CohortProgress], ended: int, now: float) -> str:
    """Return how many more cohorts there are, by what they do, and how many have ended."""
    # A wait has the time left in its state.
    states = Counter(each.state(now).partition(" 0:")[0] for each in more)
    waiting = ", ".join(f"{count:,} {state}" for state, count in states.most_common(3))
    return f"and {len(more):,} more: {waiting}; {ended:,} ended"


def _cohort_line(cohort: CohortProgress, width: int, now: float, utc_ns: int) -> str:
    counts = cohort.counts
    eta = f"ETA {clock_duration(cohort.seconds_left(now, utc_ns))}"
    cells = [_done(cohort, is_exact=width >= _WIDE)]
    if width >= _MIDDLE:
        rate = counts.uids_per_second(now)
        text = f"{rate:,.0f}/s" if width >= _WIDE else f"{compact(rate)}/s"
        cells.append(f"{text if cohort.is_sending else '':>8}")
    cells.append(f"{eta:<11}")
    state = f"{cohort.state(now):<{_STATE}}"
    rest = "  ".join([state, *cells])
    room = max(8, width - len(rest) - 2)
    return f"{_padded(cohort.line.name, room)}  {rest}".rstrip()


def _done(cohort: CohortProgress, *, is_exact: bool) -> str:
    """Return the accepted uids and those of the whole run, aligned."""
    whole, accepted = cohort.whole, cohort.counts.accepted
    show = (lambda count: f"{count:,.0f}") if is_exact else compact
    number = 13 if is_exact else 6
    if whole is None and not cohort.counts.planned:
        return " " * (2 * number + 4)
    about = "~" if cohort.counts.whole is None and whole is not None else ""
    total = "?" if whole is None else f"{about}{show(max(whole, cohort.counts.settled))}"
    return f"{show(accepted):>{number}} of {total:<{number}}"


def _padded(name: str, room: int) -> str:
    """Return a name in exactly `room` columns."""
    from rich.cells import cell_len

    text = shortened(name, room)
    return text + " " * (room - cell_len(text))


def _workspace_lines(
    workspace: WorkspaceProgress, width: int, now: float
) -> Iterator[tuple[str, str]]:
    """Yield the line of a workspace's ceiling, and one for each of its disturbances."""
    ceiling, counts = workspace.ceiling, workspace.counts
    if ceiling is None:
        return
    used = f"{workspace.sent_in_window(now):,}/{ceiling.requests:,}"
    per = "a minute" if ceiling.per_seconds == _MINUTE else f"in {ceiling.per_seconds:g} s"
    shares = f"{counts.ceiling_attempted:.0%} used, {counts.ceiling_accepted:.0%} accepted"
    line = f"{used} requests {per} · ceiling {shares}"
    room = max(8, width - len(line) - 2)
    yield shortened(f"{_padded(workspace.name, room)}  {line}", width), "bold"
    for each in workspace.disturbances.current:
        yield shortened(f"  {each.sentence(now)}", width), "yellow"


_MINUTE = 60
