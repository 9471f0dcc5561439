"""Exports, from files, folders, pipes and URLs, as blocks of uids; no record goes unaccounted for.

`open_source` looks at every file before anything is sent, and `FileSource.blocks` then streams
them. Each format has a module that yields `Rows`; `rows.to_block` makes a `Block` of them.
"""

from engine.source.block import BLANK, Block, Skipped, Source
from engine.source.files.file_source import FileSource
from engine.source.files.opening import open_source
from engine.source.options import Format, ReadingOptions

__all__ = [
    "BLANK",
    "Block",
    "FileSource",
    "Format",
    "ReadingOptions",
    "Skipped",
    "Source",
    "open_source",
]
