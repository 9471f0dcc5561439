"""How large a payload may be."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class PackingSettings:
    """How large a payload may be on the wire, envelope included."""

    payload_bytes: Annotated[int, Ge(1), Le(1_048_576)] = 128_000
