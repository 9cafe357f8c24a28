"""Rounds to a contract's scale, so that the stored value equals the scored one."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from numpy.typing import NDArray

# A scaled value differs from its decimal by at most two roundings, each half a unit in the last place. Within
# this distance of a tie only exact arithmetic can decide the direction.
_RELATIVE_ERROR = 4.0 * 2.0**-53


def quantise(values: NDArray[np.float64], scale: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Round to `scale` decimals, half away from zero, on the shortest decimal that names the double.

    That is what Postgres does with the same number sent as text to a `numeric(p, scale)`.

    Args:
        values: finite doubles or NaN (kept), any shape, magnitude below 10 ** (15 - scale).
        scale: digits after the decimal point, 0 to 15: one number, or one for each of the last axis.

    Returns:
        The doubles nearest to the rounded decimals, same shape; never a negative zero.
    """
    factor = 10.0 ** np.asarray(scale, dtype=np.float64)
    scaled = values * factor
    result: NDArray[np.float64] = np.rint(scaled) / factor
    # Both operands are exact, so a quotient equal to the value says that the value names that decimal.
    if ((result == values) | np.isnan(values)).all():
        return result + 0.0
    rounded = np.trunc(scaled + np.copysign(0.5, scaled))
    result = rounded / factor + 0.0
    distance = np.abs(np.abs(scaled - np.trunc(scaled)) - 0.5)
    doubtful = np.nonzero(distance <= np.abs(scaled) * _RELATIVE_ERROR + 1e-9)
    if doubtful[0].size:
        scales = np.broadcast_to(np.asarray(scale), values.shape)[doubtful].tolist()
        result[doubtful] = [
            quantise_one(value, digits)
            for value, digits in zip(values[doubtful].tolist(), scales, strict=True)
        ]
    return result


def quantise_one(value: float, scale: int) -> float:
    """The same rule for one finite number."""
    if round(value, scale) == value:
        return value + 0.0
    step = Decimal(1).scaleb(-scale)
    return float(Decimal(repr(value)).quantize(step, rounding=ROUND_HALF_UP)) + 0.0
