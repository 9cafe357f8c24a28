"""Intervals of proportions that hold at every look at once, vectorised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Level = float | Floats

_STEPS = 12  # of Newton: ends are at most 1e-5 too wide
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
    successes: Floats, trials: Floats, prior: Prior, low_level: Level, high_level: Level
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
    low = _lower_end(successes, failures, mixture + np.log(low_level))
    return low, 1 - _lower_end(failures, successes, mixture + np.log(high_level))


def _log_beta(successes: Floats | float, failures: Floats | float, prior: Prior) -> Floats:
    one, other = prior.shape
    parts = _log_gamma(successes + one), _log_gamma(failures + other)
    whole = _log_gamma(successes + failures + prior.strength)
    return np.asarray(parts[0] + parts[1] - whole, dtype=np.float64)


def _lower_end(successes: Floats, failures: Floats, least: Floats) -> Floats:
    """The proportion, below the observed one, at which the log-likelihood is `least`.

    The log-likelihood is concave in the log-odds, so Newton's steps from below stay below: an end that is not
    quite reached is a little too wide, never too narrow. Where every odds were 0, only the successes would
    count; that is below the end, and the first guess.
    """
    trials = successes + failures
    log_odds = least / np.maximum(successes, 1e-9)
    for _ in range(_STEPS):
        odds = np.exp(log_odds)
        likelihood = successes * log_odds - trials * np.log1p(odds)
        log_odds = log_odds + (least - likelihood) / np.maximum(successes - trials * odds / (1 + odds), 1e-9)
    odds = np.exp(log_odds)
    return np.where(successes > 0, odds / (1 + odds), 0.0)
