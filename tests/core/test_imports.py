"""No module of the engine imports another one that imports it, at once or later."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import engine

ROOT = Path(engine.__file__).parent


def test_no_modules_import_each_other() -> None:
    modules = {name_of(path): path for path in ROOT.rglob("*.py")}
    imports = {
        name: set(imported(ast.parse(path.read_text()), modules)) - {name}
        for name, path in modules.items()
    }
    reachable = {name: reached_from(name, imports) for name in modules}
    circles = {
        frozenset(other for other in reachable[name] if name in reachable[other])
        for name in modules
        if name in reachable[name]
    }
    assert not circles


@pytest.mark.parametrize(
    ("needed", "unneeded"),
    [
        (
            "engine.api, engine.runs.present, engine.report.history",
            {"aiohttp", "numpy", "pyarrow"},
        ),
        (
            "engine.runs.push, engine.runs.requests, engine.source.files.opening, pyarrow.csv",
            {"engine.runs.planner", "pyarrow.fs", "pyarrow.parquet"},
        ),
    ],
    ids=["quick commands", "push of csv"],
)
def test_no_large_module_is_imported_that_is_not_needed(needed: str, unneeded: set[str]) -> None:
    code = f"import sys, {needed}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not unneeded & set(done.stdout.split())


def test_each_public_name_can_be_listed_and_imported() -> None:
    assert set(engine.__all__) <= set(dir(engine))
    assert engine.errors.CohortSyncError is engine.CohortSyncError
    assert engine.events.Sent.__module__ == "engine.delivery.events"
    for name in engine.__all__:
        assert getattr(engine, name) is not None


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(tree: ast.AST, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield what is imported anywhere in a module, but for the sake of types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in inside)
        yield from imported(node, modules)


def reached_from(name: str, imports: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = imports[waiting.pop()] - found
        found |= new
        waiting += new
    return found
