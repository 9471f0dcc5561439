"""The names of files that hold uids are made in one module."""

import ast
from pathlib import Path

import engine
from engine.storage import paths

SUFFIXES = (".parquet", ".sqlite", ".bak", ".part", ".tmp", "-wal", "-shm")
OTHERS = ("emulator/", "source/", "planning/spark/lake.py")
"""What knows what others call their files, and the lake, where a cohort's are in one folder."""


def test_no_other_module_names_a_file_that_holds_uids() -> None:
    root = Path(engine.__file__).parent
    modules = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    naming = {
        name
        for name, path in modules.items()
        if not name.startswith(OTHERS) and any(map(names_a_file, ast.walk(parsed(path))))
    }
    assert naming == {Path(paths.__file__).relative_to(root).as_posix()}


def parsed(path: Path) -> ast.AST:
    """Parse a module that has a suffix in its text; any other one is as good as empty."""
    text = path.read_text()
    return ast.parse(text if any(suffix in text for suffix in SUFFIXES) else "")


def names_a_file(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return False
    return node.value.endswith(SUFFIXES) and " " not in node.value
