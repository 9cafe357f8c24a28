"""The champion's performance estimated without labels, from its calibrated scores.

A calibrated score is the chance that a transaction is a fraud, so the sum of the scores of flagged
transactions is the expected number of frauds among them, and so on for every cell of the confusion matrix
(confidence-based performance estimation; Guillory et al. 2021, Garg et al. 2022). The scores are first
corrected by the fraud rate of their bin on the held-out part.

This holds while a score still means what it meant on the held-out part. It cannot see that frauds have begun
to look legitimate (concept drift): only labels show that. So every estimate is compared with the truth once
that is known, and one is trusted only while the latest that were compared held it, and while inputs and
scores have not left the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core.drift.window import ScoreCounts
from fraud_core.profile import Profile

Cells = NDArray[np.float64]

# Of each figure, so many of the latest compared estimates are looked at; fewer than the second say nothing.
COMPARED: Final = 24
FEWEST_COMPARED: Final = 5
# Confirmed, unless so many misses are less probable than this where the intervals are right.
_IMPROBABLE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated figure and its interval; None where the ratio is undefined."""

    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Bins:
    """Rows of a window by bin of scores, all of shape [bins]; of its frauds, `share` are flagged."""

    rows: Cells
    flagged: Cells
    frauds: Cells
    caught: Cells
    share: Cells
    rate_variances: Cells


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of the latest estimates of a figure that were compared with the truth: how many intervals held it."""

    compared: int
    covered: int


def are_confirmed(coverage: Mapping[str, Coverage], confidence: float) -> bool:
    """Whether labels show that scores still mean what they meant, by the latest estimates of each figure.

    Every figure with enough comparisons must have been held as often as the intervals' `confidence` promises
    (one-sided binomial test). Without any such figure nobody knows, which is no confirmation.
    """
    known = [one for one in coverage.values() if one.compared >= FEWEST_COMPARED]
    return bool(known) and all(_chance(one, 1 - confidence) >= _IMPROBABLE for one in known)


def _chance(one: Coverage, miss: float) -> float:
    """The probability of as many misses or more, if each interval misses with the probability `miss`."""
    misses = range(one.compared - one.covered, one.compared + 1)
    return sum(comb(one.compared, k) * miss**k * (1 - miss) ** (one.compared - k) for k in misses)


def estimate_performance(profile: Profile, scores: ScoreCounts, confidence: float) -> list[Estimate]:
    """Recall, FPR and precision of a window that the champion scored; those that are undefined are left out.

    The interval covers the chance of each row's class, and the error of each bin's fraud rate on the held-out
    part. Both are propagated linearly (delta method).
    """
    bins = _expected(profile, scores)
    frauds, caught, flagged, rows = (
        float(cells.sum()) for cells in (bins.frauds, bins.caught, bins.flagged, bins.rows)
    )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    ratios = {
        "recall": (caught, frauds),
        "fpr": (flagged - caught, rows - frauds),
        "precision": (caught, flagged),
    }
    return [
        _with_interval(metric, above / below, below, bins, z)
        for metric, (above, below) in ratios.items()
        if below > 0
    ]


def _expected(profile: Profile, scores: ScoreCounts) -> _Bins:
    rates, variances = _fraud_rates(profile, scores)
    factor = rates / np.maximum(_mean(scores.sums, scores.rows), 1e-12)
    frauds = np.minimum(factor * scores.sums, scores.rows)
    caught = np.minimum(np.minimum(factor * scores.flagged_sums, scores.flagged), frauds)
    share = np.divide(caught, frauds, out=np.zeros_like(frauds), where=frauds > 0)
    rows, flagged = scores.rows.astype(float), scores.flagged.astype(float)
    return _Bins(rows, flagged, frauds, caught, share, variances)


def _fraud_rates(profile: Profile, scores: ScoreCounts) -> tuple[Cells, Cells]:
    """The fraud rate of each bin of scores on the held-out part, and the variance of its estimate.

    A bin in which the held-out part has no rows keeps the mean score.
    """
    held_out = np.array(profile.scores.shares) * profile.scored_rows
    frauds = np.array(profile.scores_of_frauds.shares) * profile.scored_rows * profile.scored_fraud_rate
    mean_score = _mean(scores.sums, scores.rows)
    # One pseudo-row with the mean score keeps the rate of a small bin off 0 and 1.
    rates = (frauds + mean_score) / (held_out + 1)
    return rates, rates * (1 - rates) / (held_out + 1)


def _with_interval(metric: str, value: float, below: float, bins: _Bins, z: float) -> Estimate:
    # How the ratio changes if one more flagged row, or one more of the others, is a fraud.
    of_flagged, of_others = {
        "recall": (1 - value, -value),
        "fpr": (value - 1, value),
        "precision": (1.0, 0.0),
    }[metric]
    rate = _mean(bins.frauds, bins.rows)
    drawn = bins.share * of_flagged**2 + (1 - bins.share) * of_others**2
    slopes = bins.share * of_flagged + (1 - bins.share) * of_others
    variance = np.sum(bins.rows * rate * (1 - rate) * drawn)
    variance += np.sum((slopes * bins.rows) ** 2 * bins.rate_variances)
    half = z * sqrt(float(variance)) / below
    value = min(max(value, 0.0), 1.0)
    return Estimate(metric, value, max(0.0, value - half), min(1.0, value + half))


def _mean(sums: Cells, rows: NDArray[np.int64] | Cells) -> Cells:
    return np.divide(sums, rows, out=np.zeros_like(sums), where=rows > 0)
