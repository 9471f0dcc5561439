"""Opens tables by the packages that read them, which are extras."""

from dataclasses import replace

from engine.errors import UsageError
from engine.source.lake.naming import read_table_name
from engine.source.lake.table import LakeTable
from engine.source.lake.table_source import TableSource
from engine.source.options import ReadingOptions

_PACKAGES = {"delta": "deltalake>=1.6.4", "iceberg": "pyiceberg>=0.12"}
"""The package for each kind of table, which is an extra with the name of the kind."""


def open_table_source(name: str, options: ReadingOptions) -> TableSource:
    """Open a table as a source; raises as `open_table` and `TableSource`."""
    return TableSource(open_table(name), options)


def pinned(name: str) -> str:
    """Return the name of a table with the number of the version that it means now.

    Raises as `open_table`.
    """
    named = read_table_name(name)
    if named.version is not None:
        return name
    return str(replace(named, version=open_table(name).version, at=None))


def open_table(name: str) -> LakeTable:
    """Open a table at the version that its name says.

    Raises `MissingExportError` if there is no such table, `SourceError` if it has no such version
    or cannot be read, and `UsageError` for an invalid name or a missing package.
    """
    named = read_table_name(name)
    try:
        if named.kind == "delta":
            from engine.source.lake.delta import OpenDeltaTable  # noqa: PLC0415 - an extra

            return OpenDeltaTable(named.table, named.version, named.at)
        from engine.source.lake.iceberg import OpenIcebergTable  # noqa: PLC0415 - an extra

        return OpenIcebergTable(named.table, named.version, named.at)
    except ImportError:
        package = _PACKAGES[named.kind]
        raise UsageError(
            f"{name}: needs the package {package}",
            hint=f"pip install '{package}' (in the checkout: pip install '.[{named.kind}]')",
        ) from None
