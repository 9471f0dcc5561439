"""`SourceSpec`: what the ledger keeps of it, and what can be opened again from that."""

import json

import pytest

from engine.errors import UsageError
from engine.source.options import ReadingOptions
from engine.source.spec import SourceSpec

SIGNED = "https://host/a.csv?signature=SECRET"


def test_a_spec_is_the_same_after_json() -> None:
    options = ReadingOptions(column="uid", format="csv", header=False, strip=True)
    spec = SourceSpec(("d/*.csv", "s3://bucket/b.csv", "-"), options)
    assert SourceSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_what_version_0_1_0_kept_is_read() -> None:
    kept = {
        "exports": ["export.csv"],
        "reading": {"column": "uid", "format": "auto", "header": True, "strip": False},
    }
    spec = SourceSpec.from_dict(kept)
    assert spec == SourceSpec(("export.csv",), ReadingOptions(column="uid"))
    assert spec.to_dict() == kept


def test_no_credential_is_kept() -> None:
    spec = SourceSpec((SIGNED, "a.csv"))
    kept = SourceSpec.from_dict(spec.to_dict())
    assert "SECRET" not in repr(kept)
    assert kept.names == spec.names
    assert kept.files[1] == "a.csv"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("export.csv", None),
        ("s3://bucket/*.parquet", None),
        ("-", "run R read from a pipe"),
        (SIGNED, "run R read from a URL whose credentials"),
    ],
)
def test_what_can_be_resumed(file: str, reason: str | None) -> None:
    kept = SourceSpec.from_dict(SourceSpec(("a.csv", file)).to_dict())
    assert kept.is_resumable is (reason is None)
    if reason is None:
        kept.require_resumable("R")
    else:
        with pytest.raises(UsageError, match=reason):
            kept.require_resumable("R")
