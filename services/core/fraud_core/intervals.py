"""Exact intervals of proportions. Needs the extra `statistics`."""

from __future__ import annotations

from scipy.special import betaincinv


def clopper_pearson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper and Pearson 1934); (0, 1) without trials.

    Each side is missed with a chance of at most (1 - confidence) / 2, whatever the proportion and the number
    of trials. Wilson's interval misses more often where the proportion is near 1.
    """
    if trials == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return float(low), float(high)
