"""The interval of the difference of two proportions on the same transactions, vectorised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HALVINGS = 32


def difference_interval(
    first_only: Floats, second_only: Floats, pairs: Floats, z: float
) -> tuple[Floats, Floats]:
    """The score interval of the first proportion less the second (Tango 1998).

    Unlike the interval of Wald it holds where the models disagree on few transactions or on none.

    Args:
        first_only, second_only: pairs in which one is a success and the other is not, any equal shape.
        pairs: all pairs, of the same shape.
        z: the normal quantile of each side, 1.96 for 95 %.

    Returns:
        Lower and upper ends, of the same shape, within -1 and 1; -1 and 1 without pairs.
    """
    estimate = (first_only - second_only) / np.maximum(pairs, 1)

    def end(outside: float) -> Floats:
        excluded, included = np.full_like(estimate, outside), estimate
        for _ in range(_HALVINGS):
            middle = (excluded + included) / 2
            inside = np.abs(score(first_only, second_only, pairs, middle)) < z
            included = np.where(inside, middle, included)
            excluded = np.where(inside, excluded, middle)
        return excluded

    low, high = end(-1.0), end(1.0)
    return np.where(pairs > 0, low, -1.0), np.where(pairs > 0, high, 1.0)


def score(first_only: Floats, second_only: Floats, pairs: Floats, difference: Floats) -> Floats:
    """How many standard errors the observed difference lies above a supposed one (Tango 1998, eq. 4)."""
    both = first_only + second_only
    linear = (2 * pairs - first_only + second_only) * difference - both
    constant = -second_only * difference * (1 - difference)
    root = np.sqrt(np.maximum(linear**2 - 8 * pairs * constant, 0.0))
    restricted = (root - linear) / np.maximum(4 * pairs, 1)
    variance = pairs * (2 * restricted + difference * (1 - difference))
    distance = first_only - second_only - pairs * difference
    # Without a variance the supposed difference is certain: any distance excludes it.
    with np.errstate(divide="ignore", invalid="ignore"):
        standardised = distance / np.sqrt(np.maximum(variance, 0.0))
    return np.where(distance == 0, 0.0, standardised)
