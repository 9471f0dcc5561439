"""What a finished run may have lost and still count as a success."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

Rows = Annotated[int, Ge(0), Le(1_000_000_000_000)]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, slots=True)
class AccountingSettings:
    """Where exit status 0 ends and 1 begins."""

    tolerate_invalid: Rows | Share = field(
        default=0,
        metadata={
            "should_be": "a whole number of rows up to 1,000,000,000,000, or a share from 0.0 to "
            "1.0"
        },
    )
    """Uids rejected and rows invalid that still count as success.

    An integer is a number of rows, a float a share of the rows read: 1 is one row, 1.0 all of them.
    """

    def tolerates(self, lost: int, rows_read: int) -> bool:
        """Say whether `lost` uids and rows out of `rows_read` rows are few enough."""
        if isinstance(self.tolerate_invalid, int):
            return lost <= self.tolerate_invalid
        # A quotient rounds to the float that the same share was read as; a product need not:
        # 0.29 * 100 is below 29.
        return lost == 0 or lost / rows_read <= self.tolerate_invalid
