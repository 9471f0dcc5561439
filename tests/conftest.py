"""What all tests share: no waits for real time, and hypothesis without a stopwatch."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from postgres_server import PostgresServer, postgres_server
from valkey_server import ValkeyServer, valkey


@pytest.fixture(autouse=True)
def _no_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests that run at the same time from being informed of each other."""
    monkeypatch.setattr("engine.ledger.neighbors.runtime_folders", list)


@pytest.fixture(autouse=True)
def _no_second_look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a young file without a line end at its end count at once: each would take 3 s."""
    if request.path.name != "test_changed_exports.py":
        monkeypatch.setattr("engine.source.files.change_detector.RECHECK_SECONDS", 0.0)


# A failing example is kept, on CI too, and is the first to be tried the next time.
EXAMPLES = Path(__file__).parents[1] / ".hypothesis" / "examples"
# How long an example takes depends on the machine, not on the code.
untimed = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=DirectoryBasedExampleDatabase(EXAMPLES),
    print_blob=True,
)
settings.register_profile("brief", untimed, max_examples=20)
# The same laws, searched harder: pytest --hypothesis-profile=thorough
settings.register_profile("thorough", untimed, max_examples=2000)
settings.load_profile("brief")


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """Run a Valkey server for all tests of a worker; each empties it first."""
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server for all tests of a worker."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let tests use Spark on this machine, set for small tables; skips them without Java."""
    pytest.importorskip("pyspark")
    pytest.importorskip("deltalake")
    java = os.environ.get("JAVA_HOME", "")
    if shutil.which("java", path=f"{java}/bin" if java else None) is None:
        pytest.skip("there is no Java: apt-get install openjdk-17-jre-headless")
    folder = tmp_path_factory.mktemp("spark")
    settings = {"spark.sql.shuffle.partitions": 2, "spark.sql.codegen.wholeStage": "false"}
    lines = [f"{key} {value}\n" for key, value in settings.items()]
    (folder / "spark-defaults.conf").write_text("".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(folder))
        yield
