"""Sources of uids, read as blocks; no record is left unaccounted for.

`SourceSpec` says what to read and how; `SourceSpec.open` checks every file before anything is sent
and returns a `Source`, whose `blocks` then streams them. `files/` finds and opens the files,
`formats/` reads the rows in them. This module imports neither, as they are large.
"""
