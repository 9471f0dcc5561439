"""Why Spark did not start is said in a line, without the stack of Java."""

import importlib
import socket
import sys

import pytest

from engine.errors import IncompleteError, UsageError
from engine.planning.spark.starting import configuration, first_line, not_started, try_connecting
from engine.storage.settings import PlanningSettings


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("JAVA_HOME is not set\n", "finds no Java"),
        ("Error: java.lang.UnsupportedClassVersionError: org/apache/spark", "needs a later Java"),
        ("Unrecognized option: --add-modules", "needs a later Java"),
    ],
)
def test_java_that_is_missing_or_too_old_is_named(said: str, meaning: str) -> None:
    found = not_started("local[2]", RuntimeError("exited"), said)
    assert isinstance(found, UsageError)
    assert meaning in found.message
    assert "JAVA_HOME" in str(found.hint)


def test_what_spark_says_last_is_shown() -> None:
    said = "INFO begin\n26/11/27 ERROR SparkContext: no such master\n\tat org.apache.Spark\n"
    found = not_started("spark://a:1", RuntimeError("exited"), said)
    assert isinstance(found, IncompleteError)
    assert found.message.endswith("did not start: 26/11/27 ERROR SparkContext: no such master")
    error = RuntimeError("An error occurred while calling o1.x.\n: java.io.IOException: no\n\tat a")
    assert first_line(error) == "java.io.IOException: no"
    assert "IOException: no" in not_started("yarn", error, "").message


def test_a_master_that_is_away_is_named_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        master = f"spark://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(IncompleteError, match="no connection to Spark at"):
            try_connecting(master)
        taken.listen()
        try_connecting(f"spark://127.0.0.1:x,{master.removeprefix('spark://')}")
    try_connecting("local[2]")


def test_memory_and_addresses_are_set_on_this_machine_alone() -> None:
    settings = PlanningSettings(memory_megabytes=4_000, spill_dir="/fast")
    local = configuration("local[*]", settings)
    assert local["spark.driver.memory"] == "4000m"
    assert local["spark.local.dir"] == "/fast"
    assert local["spark.driver.bindAddress"] == "127.0.0.1"
    assert not any("driver" in key or "dir" in key for key in configuration("yarn", settings))


@pytest.mark.parametrize(("module", "package"), [("process", "pyspark"), ("lake", "deltalake")])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    name = f"engine.planning.spark.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"not installed: {package}") as caught:
        importlib.import_module(name)
    assert "cohortsync[spark]" in str(caught.value.hint)
