"""Reports too little memory or address space in one line, like other external causes."""

import resource

from engine.errors import CohortSyncError, IncompleteError

_LEAST_BYTES = 1_000_000_000
"""With less address space, loading a library ends the process without a message."""


def refuse_narrow_address_space() -> None:
    """Raise `IncompleteError` if a limit on address space is too low for any command."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_BYTES:
        raise IncompleteError(
            f"the address space is limited to {limit // 1_000_000:,} MB, and "
            f"{_LEAST_BYTES // 1_000_000:,} MB are needed at least",
            hint="raise that limit (`ulimit -v`, LimitAS= of systemd)",
        )


def lack_of_memory(error: BaseException) -> CohortSyncError | None:
    """Return the error to report if `error` means too little memory; otherwise None."""
    text = str(error)
    is_lack = (
        isinstance(error, MemoryError)
        or (isinstance(error, ImportError) and any(words in text for words in _UNLOADABLE))
        or (isinstance(error, RuntimeError) and text.startswith("can't start new thread"))
    )
    if not is_lack:
        return None
    return IncompleteError(
        "there is not enough memory",
        hint="raise the limit on memory of the process or the container (`ulimit -v`), then run "
        "the same command again",
    )


_UNLOADABLE = ("failed to map segment", "Cannot allocate memory", "cannot allocate memory")
"""Messages of the system if there is no memory to load a library."""
