"""Whole mirrors on Spark: the command, the emulator, and what is told of Spark: nothing."""

import os
from pathlib import Path

import pytest
from clean_room import ROOT
from emulated_api import Emulator
from nightly import TARGET, CommandLine

pytestmark = pytest.mark.spark


@pytest.fixture
def on_spark(cli: CommandLine, spark: None) -> CommandLine:
    del spark
    configure(cli)
    cli.variables = {"SPARK_CONF_DIR": os.environ["SPARK_CONF_DIR"]}
    return cli


def configure(cli: CommandLine, master: str = "spark:local[2]") -> None:
    cli.configure(
        mirror={"settle_seconds": 0.0},
        plan={"engine": "spark", "connection": "here", "lake": "lake"},
    )
    path = cli.folder / "config.toml"
    path.write_text(path.read_text() + f'[connections.here]\nurl = "{master}"\n')


def test_the_members_are_the_export_and_spark_says_nothing(
    on_spark: CommandLine, api: Emulator
) -> None:
    uids = {f"uid-{number:06}" for number in range(2_000)}
    (on_spark.folder / "export.txt").write_text("".join(f"{uid}\n" for uid in uids))
    ended = on_spark.spawn("mirror", "export.txt", *TARGET, "--json", anew=True)
    assert ended.status == 0, ended.stderr
    assert api.members() == uids
    assert "WARN" not in ended.stderr
    assert "Spark" not in ended.stderr
    checked = on_spark.run("check")
    assert "spark compares at spark:local[2]; snapshots in the lake" in checked.stdout
    assert not list((on_spark.folder / "lake").glob("*/work-*"))
    assert {each.name for each in on_spark.folder.iterdir()} >= {"lake", "state"}
    assert not (on_spark.folder / "spark-warehouse").exists()
    assert len(list((on_spark.folder / "lake").iterdir())) == 1


@pytest.mark.parametrize(
    ("says", "meaning"),
    [
        ("Error: LinkageError ... java.lang.UnsupportedClassVersionError", "needs a later Java"),
        (None, "finds no Java"),
    ],
)
def test_java_that_cannot_run_spark_is_named(
    on_spark: CommandLine, tmp_path: Path, says: str | None, meaning: str
) -> None:
    java = tmp_path / "java" / "bin" / "java"
    if says is not None:
        java.parent.mkdir(parents=True)
        java.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
        java.chmod(0o755)
    (on_spark.folder / "export.txt").write_text("a\n")
    on_spark.variables = {"JAVA_HOME": str(tmp_path / "java")}
    refused = on_spark.spawn("mirror", "export.txt", *TARGET, anew=True)
    assert refused.status == 2
    assert meaning in refused.stderr
    assert "hint: install one" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_cluster_that_is_away_leaves_everything_as_it_was(cli: CommandLine) -> None:
    configure(cli, "spark://127.0.0.1:9")
    (cli.folder / "export.txt").write_text("a\n")
    away = cli.spawn("mirror", "export.txt", *TARGET, anew=True)
    assert away.status == 75
    assert "no connection to Spark at spark://127.0.0.1:9" in away.stderr
    assert str(ROOT) not in away.stderr
