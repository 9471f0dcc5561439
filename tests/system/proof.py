"""A proof in the making: two million uids, faults, and what has to be true in the end."""

from pathlib import Path
from typing import Any

import pytest
from emulated_api import Emulator
from nasty_export import Expected
from nightly import CommandLine, Ended, assert_balanced

UIDS = 2_000_000
PAYLOAD_BYTES = 128_000
LIMITS = ("--requests", "300", "--per-seconds", "6", "--limiter", "sliding")
POISON = ("poison-a3f", "poison-9c1")
FAULTS = (
    *("--fault", "500=0.03:0.5", "--fault", "reset=0.01:1", "--fault", "hang=0.01:0.5"),
    *("--fault-at", "413=400", "--poison", POISON[0], "--poison", POISON[1]),
)
DIED = "the process died before it knew the outcome"


def prepare(folder: Path, api: Emulator) -> CommandLine:
    cli = CommandLine(folder, api.url)
    cli.configure(
        limits={"per_seconds": 6.0, "payload_bytes": PAYLOAD_BYTES},
        delivery={"timeout_seconds": 2.0},
    )
    return cli


def push(cli: CommandLine) -> Ended:
    return cli.spawn_push("export.csv.gz", "--column", "uid")


def prove(cli: CommandLine, api: Emulator, expected: Expected, last: Ended) -> dict[str, Any]:
    """Compare the emulator, the accounts and the generator; return the emulator's report."""
    accounts, report = last.document, api.report()
    assert last.status == 1, last.stderr
    assert (accounts["status"], accounts["source_complete"]) == ("finished", True)
    assert_balanced(accounts)
    assert accounts["rows"] == {
        "read": expected.rows,
        "blank": len(expected.blank),
        "invalid": len(expected.invalid),
        "excluded": 0,
    }
    assert accounts["uids"] == {
        "planned": expected.planned,
        "accepted": expected.planned - len(expected.rejected),
        "rejected": len(expected.rejected),
        "unconfirmed": 0,
        "pending": 0,
    }
    members = api.members()
    assert not members - expected.members, "the cohort has members that it should not"
    assert not expected.members - members, "the cohort lacks members"
    rejects = cli.rejects(accounts["run"])
    assert [(reject["kind"], reject["record"]) for reject in rejects] == expected.rejects
    refused = [reject for reject in rejects if reject["uid"] in POISON]
    assert all(reject["request_id"] for reject in refused)
    assert_ceiling_kept(cli, report)
    return report


def assert_ceiling_kept(cli: CommandLine, report: dict[str, Any]) -> None:
    """Never over it by our own log; as the emulator counts, while round trips are alike.

    This window is a tenth of the API's, and so is the slack: 3 ms. On a busy machine, the shortest
    round trip may vary by more. Only then may the emulator have seen too many.
    """
    sent = [
        boot_ns / 1e9
        for (boot_ns,) in cli.query(
            "SELECT sent_boot_ns FROM attempt WHERE sent_boot_ns IS NOT NULL AND "
            "reason IS NOT ? ORDER BY 1",
            DIED,
        )
    ]
    assert all(later - sooner >= 6.0 for sooner, later in zip(sent, sent[300:], strict=False))
    [(jitter_ns,)] = cli.query(
        "SELECT max(ended_utc_ns - sent_utc_ns) - min(ended_utc_ns - sent_utc_ns) "
        "FROM attempt WHERE http_status IS NOT NULL"
    )
    is_quiet = jitter_ns / 1e9 <= 0.06
    assert set(report["breaches"]) <= (set() if is_quiet else {"over_ceiling"})
    assert report["requests"]["by_status"].get("429", 0) <= (0 if is_quiet else 5)


def tell(
    capsys: pytest.CaptureFixture[str], title: str, last: Ended, report: dict[str, Any]
) -> None:
    """Print the figures, captured or not."""
    accounts = last.document
    with capsys.disabled():
        print(  # noqa: T201 - the proof's figures
            f"\n{title}: {accounts['rows']} {accounts['uids']} {accounts['requests']}\n"
            f"  fill {accounts['payload_fill']}, ceiling use {accounts['ceiling_use']}, "
            f"{accounts['elapsed_seconds']} s; emulator: {report['requests']}, "
            f"faults {report['faults']}, breaches {report['breaches'] or 'none'}, "
            f"most in a window {report['workspaces']['NIGHTLY']['most_in_window']}"
        )
