"""Strategies of the runs of a mirror: some with faults and deaths, some without."""

from crash_scenario import REPLIES
from hypothesis import strategies as st
from mirrored_cohort import UIDS, Lateness, MirrorRun
from whole_push import Death

from engine.model.cohort import Action

# A 413 that has nothing to do with the size may hit a uid that stands alone, and write it off for
# days; those that tell the truth are the server's own, by `most_uids`.
TROUBLE = sorted(REPLIES.keys() - {"500 applied much later", "413"})


latenesses = st.builds(
    Lateness,
    st.sampled_from([0.0, 5.0, 400.0, 899.0]),
    st.sampled_from([None, None, 300.0, 899.0]),
)
deaths = st.one_of(
    st.none(),
    st.builds(
        Death,
        st.sampled_from(
            [
                *("begun", "sent", "arrived", "answered"),
                *(f"{when} intend" for when in ("before", "inside", "after")),
                *(f"{when} conclude" for when in ("before", "inside", "after")),
                *(
                    f"{when} {step}"
                    for when in ("inside", "after")
                    for step in ("enter_plan", "mark_folded", "intend_to_make", "enter")
                ),
                *("before close_plan", "inside finish", "after finish"),
            ]
        ),
        st.integers(1, 4),
    ),
    st.builds(Death, seconds=st.floats(0.01, 30)),
)
rows_of_changes = st.lists(
    st.tuples(st.sampled_from(UIDS), st.sampled_from(Action)), max_size=20
).map(tuple)
mirror_runs = st.builds(
    MirrorRun,
    wanted=st.frozensets(st.sampled_from(UIDS), min_size=1),
    replies=st.lists(st.sampled_from(TROUBLE), max_size=5).map(tuple),
    lateness=st.lists(latenesses, max_size=6).map(tuple),
    death=deaths,
    signals=st.lists(st.floats(0.01, 20), max_size=2).map(lambda at: tuple(sorted(at))),
    pause=st.sampled_from([0.0, 60.0, 2_000.0, 90_000.0]),
    reboots=st.booleans(),
    first_action=st.sampled_from(Action),
    push=st.sampled_from([None, None, *Action]),
    says=st.none() | rows_of_changes,
)
fine_runs = st.builds(
    MirrorRun,
    wanted=st.frozensets(st.sampled_from(UIDS), min_size=1),
    lateness=st.lists(latenesses, max_size=6).map(tuple),
    pause=st.sampled_from([0.0, 60.0, 2_000.0, 90_000.0]),
    first_action=st.sampled_from(Action),
)
