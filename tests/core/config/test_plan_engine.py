"""The engine of plans needs a connection to a database of its kind."""

from pathlib import Path

import pytest

from engine.config.loading import Config, load
from engine.errors import ConfigError

WORKSPACE = """
[workspace]
id = "w"
data_center = "01"
[connections.marts]
url = "postgresql://reader@db/marts"
[connections.snow]
url = "snowflake://reader@account/marts"
[connections.big]
url = "bigquery://marts?location=EU"
[connections.lake]
url = "databricks://token@host"
[connections.trino]
url = "trino://reader@host/hive"
[connections.file]
url = "duckdb:plans.duckdb"
[connections.cluster]
url = "spark://master:7077"
[connections.here]
url = "spark:local[*]"
[connections.connect]
url = "sc://master:15002"
"""


def read(tmp_path: Path, plan: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(f"{WORKSPACE}[plan]\n{plan}\n")
    return load(path, need_credentials=False, environ={})


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ('engine = "postgres"', "`plan.engine` needs `plan.connection`"),
        ('engine = "duckdb"\nconnection = "none"', "`plan.connection` names no table of"),
        ('engine = "duckdb"\nconnection = "marts"', "should name a duckdb: connection"),
        ('engine = "postgres"\nconnection = "file"', "should name a postgresql: connection"),
        ('engine = "snowflake"\nconnection = "big"', "should name a snowflake: connection"),
        ('engine = "bigquery"\nconnection = "snow"', "should name a bigquery: connection"),
        ('engine = "snowflake"\nconnection = "lake"', 'compare with engine = "local" or'),
        (
            'engine = "postgres"\nconnection = "trino"',
            "names a trino: connection, which can be read",
        ),
        ('engine = "spark"\nconnection = "marts"', "should name a spark: connection"),
        ('engine = "spark"\nconnection = "connect"', "should name a spark: connection"),
        ('engine = "spark"\nconnection = "here"', "`plan.engine` needs `plan.lake`"),
        (
            'engine = "spark"\nconnection = "here"\nlake = "a[1]"',
            r"`plan.lake` may not contain \[",
        ),
        (
            'engine = "spark"\nconnection = "here"\nlake = "s3a://key:secret@bucket/a"',
            "may have no credentials",
        ),
        ('engine = "oracle"', "`plan.engine` should be"),
    ],
)
def test_an_engine_without_its_database_is_refused(tmp_path: Path, plan: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(tmp_path, plan)


@pytest.mark.parametrize(
    "plan",
    [
        'engine = "local"\nconnection = "file"',
        'engine = "duckdb"\nconnection = "file"',
        'engine = "postgres"\nconnection = "marts"',
        'engine = "spark"\nconnection = "here"\nlake = "lake"',
        'engine = "spark"\nconnection = "cluster"\nlake = "s3a://bucket/cohortsync"',
        'engine = "snowflake"\nconnection = "snow"',
        'engine = "bigquery"\nconnection = "big"',
    ],
)
def test_an_engine_with_its_database_is_read(tmp_path: Path, plan: str) -> None:
    read(tmp_path, plan)


def test_the_master_and_a_lake_beside_the_configuration_are_found(tmp_path: Path) -> None:
    config = read(tmp_path, 'engine = "spark"\nconnection = "here"\nlake = "lake"')
    assert config.planning.lake == str(tmp_path / "lake")
    assert config.connections["here"].spark_master == "local[*]"
    assert config.connections["cluster"].spark_master == "spark://master:7077"
