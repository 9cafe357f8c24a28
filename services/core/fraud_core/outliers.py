"""Tukey's fences (Tukey 1977) from the quantiles that a reference profile holds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Three interquartile ranges beyond the quartiles: "far out". Amounts have long tails, so 1.5 would mark many.
RANGES: Final = 3.0


def fences(edges: Sequence[float], levels: Sequence[float]) -> tuple[float, float] | None:
    """The values beyond which one is an outlier; None if the middle half of the values is a single one.

    Args:
        edges: rising quantiles; levels: of each, the highest level whose quantile it is.
    """
    if not edges:
        return None
    lower, upper = (_quantile(edges, levels, level) for level in (0.25, 0.75))
    reach = RANGES * (upper - lower)
    return None if reach <= 0 else (lower - reach, upper + reach)


def count_beyond(values: NDArray[np.floating[Any]], bounds: tuple[float, float]) -> int:
    """How many of the values, shape [n], lie beyond the fences; NaN does not."""
    low, high = bounds
    return int(np.count_nonzero((values < low) | (values > high)))


def _quantile(edges: Sequence[float], levels: Sequence[float], level: float) -> float:
    """The quantile of a level, interpolated between those that are known."""
    position = min(bisect_left(levels, level), len(edges) - 1)
    if position == 0 or levels[position] <= level:
        return edges[position]
    part = (level - levels[position - 1]) / (levels[position] - levels[position - 1])
    return edges[position - 1] + part * (edges[position] - edges[position - 1])
