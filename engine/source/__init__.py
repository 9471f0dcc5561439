"""Sources of uids, read as blocks that account for every record.

`SourceSpec` describes what to read and how. `SourceSpec.open` checks every file before anything is
sent, and returns a `Source`; its `blocks` streams the files. `files/` finds and opens the files,
`formats/` reads their rows. This module imports neither, as they are large.
"""
