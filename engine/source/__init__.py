"""Sources of uids, read as blocks; no record is left unaccounted for.

`SourceSpec` says what to read and how; `SourceSpec.open` checks every file before anything is sent
and returns a `Source`, whose `blocks` then streams them. `files/` finds and opens the files,
`formats/` reads the rows in them. This module imports neither, as they are large.
"""

from engine.source.block import BLANK, Block, Skipped
from engine.source.options import Format, ReadingOptions
from engine.source.protocol import Source, Spec
from engine.source.source_file import SourceFile
from engine.source.spec import SourceSpec

__all__ = [
    "BLANK",
    "Block",
    "Format",
    "ReadingOptions",
    "Skipped",
    "Source",
    "SourceFile",
    "SourceSpec",
    "Spec",
]
