"""What a sale is worth to the shop, compiled: prices, margins and ages with their powers.

It knows a bundle's item columns, and neither rules nor requests.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from online.offering.attributes import Attributes
from online.offering.offer import Objective

LEAST_UNITS: Final = np.float32(0.01)
"""What a sale is worth at least in an objective, in units of what is usual."""


def objective_of(
    attributes: Attributes,
    created_time: NDArray[np.int64],
    name: str,
    margin: float,
    price: float,
    freshness: float,
) -> Objective:
    """The objective of these powers; `created_time` has the bundle's room, microseconds UTC."""
    num_rows = len(created_time)
    return Objective(
        name,
        price=_in_usual_units(attributes.price, num_rows),
        margin=_in_usual_units(attributes.price * attributes.margin, num_rows),
        created_time=created_time,
        price_exponent=price,
        margin_exponent=margin,
        freshness_exponent=freshness,
    )


def _in_usual_units(amount: NDArray[np.float32], num_rows: int) -> NDArray[np.float32]:
    """The amounts over the median of those above 0; 1 where one is not known, and in the room.

    What earns nothing, or loses, is worth LEAST_UNITS, so that no power of it is absurd.
    """
    earning = amount[amount > 0]
    usual = np.float32(np.median(earning)) if len(earning) else np.float32(1.0)
    units = np.ones(num_rows, np.float32)
    known = ~np.isnan(amount)
    units[: len(amount)][known] = np.maximum(amount[known] / usual, LEAST_UNITS)
    return units
