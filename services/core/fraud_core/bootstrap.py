"""Bootstrap intervals of a metric and of the difference between two models on the same rows.

Efron, B. and Tibshirani, R. (1993), An Introduction to the Bootstrap: percentile intervals. Frauds and
legitimate rows are drawn apart, so that every resample has both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 1000
LEVEL: Final = 0.95

# Takes labels [n], scores [n] and weights [n], how often each row was drawn; NaN where it is undefined.
Metric = Callable[[NDArray[np.int8], NDArray[np.float64], NDArray[np.float64]], float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds of its interval; NaN where the metric is undefined in a resample."""

    value: float
    low: float
    high: float


def paired_difference(
    metric: Metric,
    labels: NDArray[np.int8],
    scores_a: NDArray[np.float64],
    scores_b: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """The metric of `scores_a` less that of `scores_b`; each resample draws the same rows for both.

    Args:
        labels: 1 is fraud, shape [n]; both classes occur.
        scores_a, scores_b: of two models for the same rows, shape [n].
    """
    source = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    weights = np.ones(len(labels))
    value = metric(labels, scores_a, weights) - metric(labels, scores_b, weights)
    differences = np.empty(resamples)
    for number in range(resamples):
        for rows in classes:
            weights[rows] = np.bincount(source.integers(0, len(rows), len(rows)), minlength=len(rows))
        differences[number] = metric(labels, scores_a, weights) - metric(labels, scores_b, weights)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(differences, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
