"""Settings for the payload size."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class PackingSettings:
    """The largest payload in bytes, including the envelope."""

    payload_bytes: Annotated[int, Ge(1), Le(1_048_576)] = 128_000
    """The most bytes of a request's body, envelope included."""
