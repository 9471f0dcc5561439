"""The proof: two million uids, every nasty kind of row and faults, compared uid by uid."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated_api import Emulator, emulator
from nasty_export import write_nasty_export
from proof import FAULTS, LIMITS, PAYLOAD_BYTES, POISON, UIDS, prepare, prove, push, tell

pytestmark = pytest.mark.slow


@pytest.fixture
def faultless(tmp_path: Path) -> Iterator[Emulator]:
    with emulator(tmp_path, *LIMITS) as api:
        yield api


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Emulator]:
    with emulator(tmp_path, *LIMITS, *FAULTS) as api:
        yield api


def test_every_nasty_row_ends_where_it_should(
    tmp_path: Path, faultless: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = prepare(tmp_path, faultless)
    expected = write_nasty_export(tmp_path / "export.csv.gz", UIDS, payload_bytes=PAYLOAD_BYTES)
    last = push(cli)
    report = prove(cli, faultless, expected, last)
    assert last.document["payload_fill"] > 0.99
    tell(capsys, "nasty rows", last, report)


def test_faults_lose_nothing(
    tmp_path: Path, faulty: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = prepare(tmp_path, faulty)
    expected = write_nasty_export(
        tmp_path / "export.csv.gz", UIDS, payload_bytes=PAYLOAD_BYTES, poison=POISON
    )
    last = push(cli)
    report = prove(cli, faulty, expected, last)
    assert {"500", "reset", "hang", "413"} <= set(report["faults"])
    assert last.document["requests"]["split"] > 0
    tell(capsys, "faults", last, report)
