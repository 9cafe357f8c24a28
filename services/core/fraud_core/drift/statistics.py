"""The statistics of drift: two discrete distributions are compared, of a window and of the reference.

All take counts or shares by bin; none depends on where the bins come from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, kolmogorov

Counts = NDArray[np.float64]
# Added to each count, so that an empty bin has a finite logarithm (Jeffreys' prior).
PRIOR = 0.5


def psi(window: Counts, reference: Counts) -> float:
    """Population stability index of two rows of shares without zeros, shape [bins].

    The sum of (p - q) ln(p / q), which is the symmetric Kullback-Leibler divergence (Jeffreys 1946).
    """
    return float(np.sum((window - reference) * np.log(window / reference)))


def corrected_psi(window: Counts, reference: Counts) -> float:
    """PSI of two rows of counts, shape [bins], less what sampling alone adds on average; at least 0.

    Without drift the PSI of counts has a mean of about (bins - 1)(1/n + 1/m), because n × PSI is
    asymptotically chi-square distributed (Yurdakul 2018). Bins that are empty on both sides do not count.
    """
    used = (window + reference) > 0
    bins, n, m = int(used.sum()), window.sum(), reference.sum()
    if bins < 2 or not n or not m:
        return 0.0
    raw = psi(smoothed(window[used]), smoothed(reference[used]))
    return max(0.0, raw - (bins - 1) * float(1 / n + 1 / m))


def smoothed(counts: Counts) -> Counts:
    """Shares without zeros, shape [bins]."""
    return np.asarray((counts + PRIOR) / (counts.sum() + PRIOR * len(counts)))


def homogeneity_p(window: Counts, reference: Counts) -> float:
    """Pearson's chi-square test that two rows of counts come from one distribution; the p-value."""
    used = (window + reference) > 0
    first, second = window[used], reference[used]
    n, m = first.sum(), second.sum()
    if len(first) < 2 or not n or not m:
        return 1.0
    statistic = np.sum((first * np.sqrt(m / n) - second * np.sqrt(n / m)) ** 2 / (first + second))
    return float(chdtrc(len(first) - 1, statistic))


def kolmogorov_smirnov(window: Counts, reference: Counts) -> tuple[float, float]:
    """The largest difference of the cumulated shares at the bins' edges, and its p-value.

    The difference is at most that of the values themselves, so that the test is conservative.
    """
    n, m = window.sum(), reference.sum()
    if len(window) < 2 or not n or not m:
        return 0.0, 1.0
    difference = float(np.max(np.abs(np.cumsum(window) / n - np.cumsum(reference) / m)))
    return difference, float(kolmogorov(difference * np.sqrt(n * m / (n + m))))


def total_variation(window: Counts, reference: Counts) -> float:
    """The share of rows that would have to change their category to make the distributions equal."""
    n, m = window.sum(), reference.sum()
    if not n or not m:
        return 0.0
    return float(np.sum(np.abs(window / n - reference / m)) / 2)


def adjusted(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values that control the false discovery rate (Benjamini and Hochberg 1995), shape [k] → [k].

    Where nothing has drifted at all, the chance that any of them is below α is at most α.
    """
    count = len(p_values)
    order = np.argsort(p_values)
    scaled = p_values[order] * count / np.arange(1, count + 1)
    result = np.empty(count)
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return result
