from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.plan.guards import Allowance, Facts, Guard, GuardSettings, Verdict, judge
from engine.plan.profile import Profile

HOUR_NS = 3_600_000_000_000


def profile(*uids: str) -> Profile:
    found = Profile()
    found.look(pa.array(uids, pa.string()))
    return found


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
    exported_utc_ns=50 * HOUR_NS,
    oldest_utc_ns=50 * HOUR_NS,
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


def verdicts(facts: Facts, settings: GuardSettings = STRICT, *allowed: str) -> dict[Guard, Verdict]:
    found = judge(facts, settings, [Allowance.parse(text) for text in allowed])
    assert [verdict.guard for verdict in found] == list(Guard)
    return {verdict.guard: verdict for verdict in found}


def blocking(facts: Facts, settings: GuardSettings = STRICT, *allowed: str) -> set[Guard]:
    return {guard for guard, found in verdicts(facts, settings, *allowed).items() if found.blocks}


def test_a_quiet_night_passes_every_guard() -> None:
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
            {"oldest_utc_ns": 27 * HOUR_NS},
            {"oldest_utc_ns": 27 * HOUR_NS - 1},
            "age",
            None,
        ),
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


def _whole(guard: str) -> str:
    return guard if guard in {"shape", "older", "age", "name"} else f"{guard}=999999999"


def test_an_empty_export_blocks_whatever_is_allowed() -> None:
    empty = replace(QUIET, desired=0, removes=0)
    loose = GuardSettings(max_removals=1.0)
    assert blocking(empty, loose) == {"empty"}
    assert verdicts(empty, loose)[Guard.EMPTY].override is None
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
def test_an_allowance_that_cannot_be_is_told(text: str) -> None:
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
def test_another_kind_of_uid_is_told_from_churn(
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
