"""The limit of rejected uids and invalid rows up to which a finished run is a success."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

Rows = Annotated[int, Ge(0), Le(1_000_000_000_000)]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, slots=True)
class AccountingSettings:
    """The settings that decide between exit status 0 and 1."""

    tolerate_invalid: Rows | Share = field(
        default=0,
        metadata={
            "should_be": "a whole number of rows up to 1,000,000,000,000, or a share from 0.0 to "
            "1.0"
        },
    )
    """The number of rejected uids and invalid rows up to which a run is a success.

    An integer is a number of rows, a float a share of the rows read: 1 is one row, 1.0 all of them.
    """

    def tolerates(self, lost: int, rows_read: int) -> bool:
        """Return whether `lost` uids and rows out of `rows_read` rows are within the limit."""
        if isinstance(self.tolerate_invalid, int):
            return lost <= self.tolerate_invalid
        # A quotient rounds to the same float as the configured share; a product may not:
        # 0.29 * 100 is below 29.
        return lost == 0 or lost / rows_read <= self.tolerate_invalid
