"""Intervals of proportions that hold at every look at once, vectorised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HALVINGS = 32  # of [0, 1]: ends are known to 2e-10
_log_gamma = np.frompyfunc(math.lgamma, 1, 1)


@dataclass(frozen=True, slots=True)
class Prior:
    """Where a proportion is looked for first: a Beta distribution, worth `strength` observations.

    It decides how fast an interval shrinks and where, never whether it holds.
    """

    mean: float | Floats
    strength: float

    @property
    def shape(self) -> tuple[float | Floats, float | Floats]:
        """The two parameters of the Beta distribution."""
        return self.mean * self.strength, (1 - self.mean) * self.strength


JEFFREYS = Prior(mean=0.5, strength=1.0)


def interval(
    successes: Floats, trials: Floats, prior: Prior, low_level: float, high_level: float
) -> tuple[Floats, Floats]:
    """The ends of confidence sequences of proportions.

    The likelihood of what was observed, mixed over the prior, divided by its likelihood under the true
    proportion is a martingale that starts at 1; that it ever reaches 1 / level has a chance of at most
    `level` (Ville 1939). A proportion for which it has reached that is excluded (Robbins 1970, the mixture
    for Bernoulli trials). So an end misses the truth at any number of looks with at most that chance.

    Args:
        successes, trials: counts so far, of any equal shape; they need not be whole.
        low_level: chance that the lower end ever exceeds the truth.
        high_level: chance that the upper end ever falls below it.

    Returns:
        Lower and upper ends, of the same shape; 0 and 1 without trials.
    """
    failures = trials - successes
    mixture = _log_beta(successes, failures, prior) - _log_beta(0.0, 0.0, prior)
    centre = successes / np.maximum(trials, 1e-300)
    low = _end(successes, failures, mixture + math.log(low_level), 0.0, centre)
    high = _end(successes, failures, mixture + math.log(high_level), 1.0, centre)
    return np.where(successes > 0, low, 0.0), np.where(failures > 0, high, 1.0)


def _log_beta(successes: Floats | float, failures: Floats | float, prior: Prior) -> Floats:
    one, other = prior.shape
    parts = _log_gamma(successes + one), _log_gamma(failures + other)
    whole = _log_gamma(successes + failures + prior.strength)
    return np.asarray(parts[0] + parts[1] - whole, dtype=np.float64)


def _end(
    successes: Floats, failures: Floats, least_likelihood: Floats, outside: float, centre: Floats
) -> Floats:
    """Where the log-likelihood falls to `least_likelihood` between its maximum and an end of [0, 1]."""
    excluded, included = np.full_like(centre, outside), centre
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_HALVINGS):
            middle = (excluded + included) / 2
            likelihood = successes * np.log(middle) + failures * np.log1p(-middle)
            inside = likelihood > least_likelihood
            included = np.where(inside, middle, included)
            excluded = np.where(inside, excluded, middle)
    return excluded
