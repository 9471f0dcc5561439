import shlex
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.planning.allowances import COUNTED, Allowance, Guard, flags_to_lift, read_allowances
from engine.planning.guards import Facts, GuardResult, judge
from engine.planning.profile import Profile
from engine.planning.settings import GuardSettings
from engine.source.source_file import SourceFile

HOUR_NS = 3_600_000_000_000


def profile(*uids: str) -> Profile:
    found = Profile()
    found.look(pa.array(uids, pa.string()))
    return found


def files(*hours: float | None) -> list[SourceFile]:
    """Make files that were written in these hours."""
    return [
        SourceFile(f"exports/{number}.csv", 100, None if hour is None else round(hour * HOUR_NS))
        for number, hour in enumerate(hours)
    ]


HEX = profile(*(f"{number:024x}" for number in range(500)))
QUIET = Facts(
    members=10_000,
    adds_left=0,
    adds=100,
    removes=100,
    desired=10_000,
    rows_read=10_100,
    invalid=0,
    duplicates=0,
    misfits=0,
    profile=HEX,
    last_profile=HEX,
    files=files(50, 50.5),
    exported_utc_ns=50 * HOUR_NS,
    last_exported_utc_ns=26 * HOUR_NS,
    now_utc_ns=51 * HOUR_NS,
    name="VIPs",
    last_name="VIPs",
)
STRICT = GuardSettings(
    max_removals=[0.1, 800],
    max_additions=0.5,
    expected_size=[5_000, 20_000],
    max_invalid=10,
    max_duplicates=0.1,
    uid_pattern="[0-9a-f]{24}",
    max_age_hours=24.0,
)


def verdicts(
    facts: Facts, settings: GuardSettings = STRICT, *allowed: str
) -> dict[Guard, GuardResult]:
    found = judge(facts, settings, [Allowance.parse(text) for text in allowed])
    assert [verdict.guard for verdict in found] == list(Guard)
    return {verdict.guard: verdict for verdict in found}


def blocking(facts: Facts, settings: GuardSettings = STRICT, *allowed: str) -> set[Guard]:
    return {guard for guard, found in verdicts(facts, settings, *allowed).items() if found.blocks}


def test_a_plain_run_passes_every_guard() -> None:
    assert blocking(QUIET) == set()
    assert not any(verdict.is_lifted for verdict in verdicts(QUIET).values())


@pytest.mark.parametrize(
    ("guard", "passes", "blocks", "allowance", "not_enough"),
    [
        ("removals", {"removes": 800}, {"removes": 801}, "removals=801", "removals=800"),
        ("additions", {"adds": 5_000}, {"adds": 5_001}, "additions=5_001", "additions=5000"),
        ("size", {"desired": 20_000}, {"desired": 20_001}, "size=20001", "size=20000"),
        ("size", {"desired": 5_000}, {"desired": 4_999}, "size=4999", "size=5000"),
        ("invalid", {"invalid": 10}, {"invalid": 11}, "invalid=11", "invalid=10"),
        ("duplicates", {"duplicates": 1_010}, {"duplicates": 1_011}, "duplicates=1011", None),
        ("pattern", {"misfits": 0}, {"misfits": 1}, "pattern=1", "pattern=0"),
        ("shape", {"profile": HEX}, {"profile": profile("a@b.c", "d@e.f")}, "shape", None),
        (
            "older",
            {"exported_utc_ns": 30 * HOUR_NS, "last_exported_utc_ns": 30 * HOUR_NS},
            {"exported_utc_ns": 30 * HOUR_NS, "last_exported_utc_ns": 30 * HOUR_NS + 1},
            "older",
            None,
        ),
        (
            "age",
            {"files": files(27, 30)},
            {"files": files(30, 27 - 1e-6)},
            "age",
            None,
        ),
        ("spread", {"files": files(50, 38)}, {"files": files(50, 38 - 1e-6)}, "spread", None),
        ("name", {"last_name": None}, {"last_name": "Lapsed"}, "name", None),
    ],
)
def test_each_guard_blocks_beyond_its_bound_and_can_be_lifted_so_far(
    guard: str,
    passes: dict[str, Any],
    blocks: dict[str, Any],
    allowance: str,
    not_enough: str | None,
) -> None:
    assert blocking(replace(QUIET, **passes)) == set()
    bad = replace(QUIET, **blocks)
    assert blocking(bad) == {guard}
    verdict = verdicts(bad)[Guard(guard)]
    assert verdict.override is not None
    assert verdict.override.startswith(f"--allow {allowance.replace('_', '')}")
    assert blocking(bad, STRICT, allowance) == set()
    assert verdicts(bad, STRICT, allowance)[Guard(guard)].is_lifted
    if not_enough:
        assert blocking(bad, STRICT, not_enough) == {guard}
    others = [each.value for each in Guard if each not in {guard, "empty"}]
    assert blocking(bad, STRICT, *(_whole(other) for other in others)) == {guard}
    # A list of changes may have any size and repeat uids; the other guards are the same.
    listed = replace(bad, lists_changes=True, desired=0)
    assert blocking(listed) == {guard} - {"size", "duplicates"}


def _whole(guard: str) -> str:
    return guard if Guard(guard) not in COUNTED else f"{guard}=999999999"


def test_an_empty_export_blocks_whatever_is_allowed() -> None:
    empty = replace(QUIET, desired=0, removes=0)
    loose = GuardSettings(max_removals=1.0)
    assert blocking(empty, loose) == {"empty"}
    assert verdicts(empty, loose)[Guard.EMPTY].override is None
    excluded = verdicts(replace(empty, excluded=5), loose)[Guard.EMPTY]
    assert excluded.sentence == "each uid of the export is excluded: it would empty the cohort"
    with pytest.raises(UsageError):
        Allowance.parse("empty")


def test_shares_bind_once_a_cohort_is_large_enough_and_numbers_always() -> None:
    small = replace(QUIET, members=999, adds=5_000, removes=999)
    assert blocking(small, GuardSettings()) == set()
    assert blocking(replace(small, members=1000), GuardSettings()) == {"removals", "additions"}
    assert blocking(small, GuardSettings(max_removals=998)) == {"removals"}


def test_a_first_run_is_judged_by_what_is_known() -> None:
    first = replace(
        QUIET, members=0, adds=10_000, last_profile=None, last_exported_utc_ns=None, last_name=None
    )
    assert blocking(first) == set()
    assert blocking(replace(first, desired=4_999)) == {"size"}


@pytest.mark.parametrize(
    "text",
    ["removal=3", "removals", "removals=", "removals=-1", "removals=x", "removals=²", "shape=3"],
)
def test_an_allowance_that_cannot_be_is_reported(text: str) -> None:
    with pytest.raises(UsageError, match="--allow"):
        Allowance.parse(text)


counts = st.integers(0, 30_000)


@given(counts, counts, counts, counts, counts)
def test_more_of_what_is_bad_never_turns_a_block_into_a_pass(
    removes: int, more: int, adds: int, members: int, misfits: int
) -> None:
    facts = replace(QUIET, removes=removes, adds=adds, members=members, misfits=misfits)
    worse = replace(facts, removes=removes + more, adds=adds + more, misfits=misfits + more)
    assert blocking(facts) <= blocking(worse)


@pytest.mark.parametrize(
    ("last", "tonight", "is_other"),
    [
        (["12345", "67890"], ["ada@example.com", "b@example.com"], True),
        ([f"{n:024x}" for n in range(300)], [f"{n:036x}" for n in range(300)], True),
        ([f"{n:024x}" for n in range(300)], [f"{n:024x}" for n in range(200, 900)], False),
        ([str(n) for n in range(900, 1000)], [str(n) for n in range(900, 1300)], False),
        (["a@b.c"] * 9 + ["123"], ["longer.name@example.com"] * 8 + ["4567"] * 2, False),
        ([f"{n:024x}" for n in range(300)], [f"{n:024x}" for n in range(270)] + ["é"] * 30, False),
    ],
)
def test_another_kind_of_uid_is_distinguished_from_churn(
    last: list[str],
    tonight: list[str],
    is_other: bool,  # noqa: FBT001 - a table of cases
) -> None:
    before, now = profile(*last), profile(*tonight)
    kept = Profile(before.document())  # As the ledger keeps it.
    assert (now.distance(kept) > 0.5) is is_other
    assert kept.distance(before) == 0


def test_a_profile_of_many_is_a_sample_and_holds_no_uid() -> None:
    many = Profile()
    for start in range(0, 100_000, 50_000):
        many.look(pa.array([f"{n:024x}" for n in range(start, start + 50_000)], pa.string()))
    assert abs(sum(many.document().values()) - 100_000) <= 2
    assert not any("0000000" in look for look in many.document())


ONE_DAY = GuardSettings(max_age_hours=24.0)
HALF_DAY = GuardSettings(max_spread_hours=12.0)


@pytest.mark.parametrize(
    ("guard", "facts", "settings", "verdict"),
    [
        # Files without a known time: a configured guard blocks, a default one reports it.
        ("age", {"files": files(None)}, GuardSettings(), "passes"),
        ("age", {"files": files(None)}, ONE_DAY, "blocks"),
        ("age", {"files": files(50, None)}, ONE_DAY, "blocks"),
        ("age", {"files": files(50, 60)}, ONE_DAY, "blocks"),
        ("spread", {"files": files(60, 61)}, HALF_DAY, "blocks"),
        ("spread", {"files": files(60, 61)}, GuardSettings(), "unknown"),
        ("age", {"files": files(51.9, 50)}, ONE_DAY, "passes"),
        ("age", {"files": ()}, ONE_DAY, "passes"),
        ("spread", {"files": files(None)}, HALF_DAY, "passes"),
        ("spread", {"files": files(None, None)}, GuardSettings(), "unknown"),
        ("spread", {"files": files(50, None)}, GuardSettings(), "unknown"),
        ("spread", {"files": files(50, None)}, HALF_DAY, "blocks"),
        ("spread", {"files": files(20, 50, None)}, GuardSettings(), "blocks"),
        ("spread", {"files": ()}, HALF_DAY, "passes"),
        ("older", {"files": files(None), "exported_utc_ns": None}, GuardSettings(), "unknown"),
        ("older", {"last_exported_utc_ns": None}, GuardSettings(), "unknown"),
        ("older", {"last_exported_utc_ns": None, "last_profile": None}, GuardSettings(), "passes"),
        ("older", {"files": (), "exported_utc_ns": None}, GuardSettings(), "passes"),
        # What is missing the first time is no fact: there is nothing to compare with.
        ("shape", {"last_profile": None}, GuardSettings(), "passes"),
        ("name", {"last_name": None}, GuardSettings(), "passes"),
        ("removals", {"members": 0}, GuardSettings(), "passes"),
        ("additions", {"members": 0}, GuardSettings(), "passes"),
        # What is not asked for.
        ("size", {}, GuardSettings(), "passes"),
        ("pattern", {"misfits": 7}, GuardSettings(), "passes"),
        ("shape", {"profile": profile("a@b.c")}, GuardSettings(same_shape=False), "passes"),
    ],
)
def test_a_guard_that_cannot_be_evaluated_blocks_or_says_so(
    guard: str, facts: dict[str, Any], settings: GuardSettings, verdict: str
) -> None:
    found = verdicts(replace(QUIET, **facts), settings)[Guard(guard)]
    assert (found.blocks, found.is_unknown) == (verdict == "blocks", verdict == "unknown")
    if verdict == "unknown":
        assert "the time of writing of" in found.sentence


@pytest.mark.parametrize("guard", ["age", "spread"])
def test_what_cannot_be_evaluated_is_lifted_by_its_name(guard: str) -> None:
    settings = GuardSettings(max_age_hours=24.0, max_spread_hours=12.0)
    unknown = replace(QUIET, files=files(50, None))
    assert blocking(unknown, settings) == {"age", "spread"}
    assert guard not in blocking(unknown, settings, guard)
    assert verdicts(unknown, settings, guard)[Guard(guard)].is_lifted


@pytest.mark.parametrize(
    ("names", "glob"),
    [
        (["x/2026-11-25.csv", "x/2026-11-26.csv"], "x/2026-11-26.csv"),
        (["x/25-a.csv", "x/26-a.csv", "x/26-b.csv"], "'x/26-*.csv'"),
        (["x/a-25.csv", "x/a-26.csv", "x/b-26.csv"], "'x/*-26.csv'"),
        (["x/a-25.csv", "x/a.csv", "x/a-26.csv"], "x/a.csv and 1 more"),
    ],
)
def test_the_spread_guard_names_the_files_and_a_glob_that_picks_the_newest(
    names: list[str], glob: str
) -> None:
    gathered = [
        SourceFile(name, 9, (20 if number == 0 else 50) * HOUR_NS)
        for number, name in enumerate(names)
    ]
    found = verdicts(replace(QUIET, files=gathered), GuardSettings())[Guard.SPREAD]
    assert found.sentence == (
        f"{len(names)} files, written 30.0 h apart, and 12 h are allowed: from {names[0]} of "
        f"1 Jan 20:00 to {names[-1]} of 3 Jan 02:00 UTC"
    )
    assert found.hint == f"name only what was written last: {glob}"


TOO_MUCH: dict[str, tuple[dict[str, Any], int, str]] = {
    "removals": ({"removes": 1_205, "members": 2_050}, 1_205, "at most 205"),
    "additions": ({"adds": 1_205, "members": 2_050}, 1_205, "at most 1,025"),
    "size": ({"desired": 20_001}, 20_001, ""),
    "invalid": ({"invalid": 900}, 900, "at most 505"),
    "duplicates": ({"duplicates": 6_000}, 6_000, "at most 5,050"),
    "pattern": ({"misfits": 30}, 30, ""),
}
"""Facts that one guard blocks, how much of it there is, and what the configuration allows."""
LIFTED = GuardSettings(expected_size=[5_000, 20_000], uid_pattern="[0-9a-f]{24}")


@pytest.mark.parametrize("guard", sorted(COUNTED))
def test_the_allowance_in_effect_is_reported_and_the_hint_repeats_all_that_is_lifted(
    guard: Guard,
) -> None:
    changed, count, configured = TOO_MUCH[guard]
    facts = replace(QUIET, last_name="Lapsed", **changed)
    none = verdicts(facts, LIFTED, "name")[guard]
    assert none.sentence.endswith(f"; {configured} are allowed" if configured else none.sentence)
    assert none.override == f'--allow {guard}={count} --reason "…"'

    few = verdicts(facts, LIFTED, "name", f"{guard}={count - 1}")[guard]
    assert few.blocks
    assert few.sentence.endswith(
        f"; at most {count - 1:,} are allowed by --allow {guard}={count - 1}"
    )
    if configured:
        fewer = verdicts(facts, LIFTED, f"{guard}=3")[guard]
        assert fewer.sentence.endswith(
            f"; {configured} are allowed, which is more than --allow {guard}=3"
        )
    given = [Allowance.parse("name"), Allowance.parse(f"{guard}={count - 1}")]
    assert few.override is not None
    flags = flags_to_lift([few.override], given, "it's right")
    assert flags == f"--allow name --allow {guard}={count} --reason 'it'\"'\"'s right'"

    command = shlex.split(flags_to_lift([few.override], given, "it's right", "v p"))
    lifted = ["--allow", "v p:name", "--allow", f"v p:{guard}={count}"]
    assert command == ["cohortsync", "sync", "v p", *lifted, "--reason", "it's right"]

    enough = verdicts(facts, LIFTED, "name", f"{guard}={count}")[guard]
    assert (enough.blocks, enough.is_lifted) == (False, True)
    assert enough.sentence.endswith(f"; at most {count:,} are allowed by --allow {guard}={count}")


def test_too_few_uids_are_lifted_to_a_least_number() -> None:
    few = verdicts(replace(QUIET, desired=4_000), LIFTED, "size=4500")[Guard.SIZE]
    assert few.sentence.endswith("; at least 4,500 are allowed by --allow size=4500")


def test_a_guard_that_is_lifted_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="--allow removals is given 2 times"):
        read_allowances(["removals=5", "name", "removals=7"], "why")


def test_an_allowance_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 1,000,000,000,000"):
        Allowance.parse("removals=" + "9" * 30)


def test_a_guard_that_passes_shows_its_count_and_limit_too() -> None:
    def found(settings: GuardSettings) -> dict[Guard, tuple[int, int | None]]:
        return {each.guard: (each.count, each.limit) for each in judge(QUIET, settings)}

    assert found(STRICT)[Guard.REMOVALS] == (100, 800)
    assert found(STRICT)[Guard.ADDITIONS] == (100, 5_000)
    assert found(STRICT)[Guard.SHAPE] == (0, None)
    # Shares do not bind a small cohort.
    assert found(replace(STRICT, small_cohort=20_000, max_removals=0.1))[Guard.REMOVALS] == (
        100,
        None,
    )
    blocked = {each.guard: each for each in judge(replace(QUIET, removes=900), STRICT)}
    assert (blocked[Guard.REMOVALS].count, blocked[Guard.REMOVALS].limit) == (900, 800)
