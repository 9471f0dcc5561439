"""The configuration in docs/sources.md is valid, and names the files that the page says."""

import tomllib
from datetime import date
from pathlib import Path

from engine.config.loading import load_project
from engine.source.dates import date_problem, expand_dates
from engine.source.files.patterns import pick_problem
from engine.source.sql.query import Query
from pages import ROOT, fences


def test_the_configuration_of_the_page(tmp_path: Path) -> None:
    text = "\n".join(fences(ROOT / "docs" / "sources.md", "toml"))
    path = tmp_path / "config.toml"
    path.write_text(f'[workspace]\nid = "W"\ndata_center = "01"\n{text}', encoding="utf-8")
    read = load_project(path, need_credentials=False, environ={}).cohorts
    assert {"vip", "lapsed"} <= read.keys()
    assert read["lake"].source == ("delta:s3://lake/vip@{date}T03:00+01:00",)
    assert read["prod"].source == ("iceberg:prod.crm.vip",)
    assert read["buyers"].query == Query("marts", "SELECT user_id FROM orders")
    shared = Query("marts", "SELECT user_id, kind FROM orders", "kind")
    assert (read["churned"].query, read["vips"].query) == (shared.of("churned"), shared.of("vip"))
    cohorts = tomllib.loads(text)["cohorts"]
    named = [cohorts["vip"]["source"], cohorts["lapsed"]["wait_for"]]
    named += cohorts["lapsed"]["exclude"]["source"]
    assert [date_problem(name) for name in named] == [None] * 4
    assert [expand_dates(name, date(2026, 11, 27)) for name in named] == [
        "exports/2026-11-27/vip-*.csv.gz",
        "s3://exports/lapsed/_done/20261126",
        "suppressed.txt",
        "staff-2026-11-27.csv",
    ]
    assert pick_problem(cohorts["lapsed"]["source"]) is None
