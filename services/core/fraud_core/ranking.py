"""Rows ordered by score under many weightings at once, and the figures that are computed from them.

A weighting may say how often a row was drawn (the bootstrap) or how many transactions it stands for (a sample
whose prior must be restored). Every figure is a function of a `Ranking` and gives one number a weighting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fraud_core import metrics
from fraud_core.money import Costs, losses

Floats = NDArray[np.float64]

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Ranking:
    """n rows, the highest score first, under b weightings.

    Attributes:
        labels: 1 is fraud, shape [n].
        scores: descending, shape [n].
        amounts: in the contract's unit, shape [n]; None if the contract has no amount.
        weights: not negative, shape [b, n].
    """

    labels: NDArray[np.int8]
    scores: Floats
    amounts: Floats | None
    weights: Floats

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """The last row of each operating point, shape [k].

        Rows of equal score are one point, because they are flagged together. So are neighbouring points
        without a fraud: between them every curve is a straight line.
        """
        ends = np.append(np.flatnonzero(np.diff(self.scores)), len(self.scores) - 1)
        before = np.searchsorted(self._frauds, ends, side="right")
        holds = np.diff(before, prepend=0) > 0
        followed = np.append(holds[1:], True)
        return np.asarray(ends[holds | followed])

    @cached_property
    def _frauds(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.labels)

    @cached_property
    def total(self) -> Floats:
        """The sum of all weights, shape [b]."""
        return self.flagged[:, -1]

    @cached_property
    def flagged(self) -> Floats:
        """The weight flagged at each operating point, shape [b, k]."""
        starts = np.concatenate([[0], self.ends[:-1] + 1])
        return np.cumsum(np.add.reduceat(self.weights, starts, axis=1), axis=1)

    @cached_property
    def found(self) -> Floats:
        """The weight of frauds flagged at each operating point, shape [b, k]."""
        return self.of_frauds(np.ones(len(self.scores)))

    @cached_property
    def recall(self) -> Floats:
        return self.found / self.found[:, -1:]

    @cached_property
    def fpr(self) -> Floats:
        others = self.flagged - self.found
        return others / others[:, -1:]

    @cached_property
    def precision(self) -> Floats:
        """Zero where nothing is flagged, which no figure counts."""
        return np.divide(self.found, self.flagged, out=np.zeros_like(self.found), where=self.flagged > 0)

    def of_frauds(self, values: Floats) -> Floats:
        """The weighted sum of a value [n] over the frauds flagged at each operating point, shape [b, k]."""
        sums = np.cumsum(self.weights[:, self._frauds] * values[self._frauds], axis=1)
        return np.pad(sums, ((0, 0), (1, 0)))[:, np.searchsorted(self._frauds, self.ends, side="right")]

    def mean(self, values: Floats) -> Floats:
        """The weighted mean of a value, shape [n] → [b]."""
        return np.asarray(self.weights @ values / self.total)


Figure = Callable[[Ranking], Floats]


def ranked(
    labels: NDArray[np.int8], scores: Floats, amounts: Floats | None = None, weights: Floats | None = None
) -> Ranking:
    """Order rows by score.

    Args:
        labels, scores: shape [n]; both classes occur.
        amounts: shape [n]; a missing one (NaN) counts as zero.
        weights: shape [b, n]; one weighting in which every row counts once by default.

    Raises:
        ValueError: shapes differ, a score is NaN, or one of the classes is absent.
    """
    metrics.check_rows(labels, scores)
    weighting = np.ones((1, len(scores))) if weights is None else weights
    money = None if amounts is None else np.nan_to_num(amounts)
    if np.all(scores[:-1] >= scores[1:]):
        return Ranking(labels, scores, money, weighting)
    order = np.argsort(-scores, kind="stable")
    return Ranking(labels[order], scores[order], None if money is None else money[order], weighting[:, order])


def average_precision(ranking: Ranking) -> Floats:
    return metrics.average_precisions(ranking)


def roc_auc(ranking: Ranking) -> Floats:
    return metrics.roc_aucs(ranking)


def recall_at_precision(precision: float) -> Figure:
    return lambda ranking: metrics.recalls_at_precision(ranking, precision)


def recall_at_fpr(fpr: float) -> Figure:
    return lambda ranking: metrics.recalls_at_fpr(ranking, fpr)


def precision_at_budget(share: float) -> Figure:
    """The share of frauds among the highest scores that a budget of `share` of all rows allows to review.

    Where equal scores lie across the budget's end, its rest is spent on them at random (the expectation).
    """
    return lambda ranking: (
        _within_budget(ranking, np.ones(len(ranking.labels)), share) / (share * ranking.total)
    )


def recall_at_budget(share: float) -> Figure:
    """The share of the frauds that a budget of `share` of all rows finds."""
    return lambda ranking: _share_found(ranking, np.ones(len(ranking.labels)), share)


def amount_recall_at_budget(share: float) -> Figure:
    """The share of the frauds' amounts that a budget finds, as `recall_at_budget`; NaN without amounts."""

    def figure(ranking: Ranking) -> Floats:
        if ranking.amounts is None:
            return np.full(len(ranking.weights), np.nan)
        return _share_found(ranking, ranking.amounts, share)

    return figure


def recall_at(threshold: float) -> Figure:
    return lambda ranking: _ratio(_found_above(ranking, threshold), ranking.found[:, -1])


def precision_at(threshold: float) -> Figure:
    return lambda ranking: _ratio(_found_above(ranking, threshold), _flagged_above(ranking, threshold))


def fpr_at(threshold: float) -> Figure:
    return lambda ranking: _ratio(
        _flagged_above(ranking, threshold) - _found_above(ranking, threshold),
        ranking.total - ranking.found[:, -1],
    )


def f1_at(threshold: float) -> Figure:
    """The harmonic mean of precision and recall at a threshold."""
    return lambda ranking: _ratio(
        2 * _found_above(ranking, threshold), ranking.found[:, -1] + _flagged_above(ranking, threshold)
    )


def cost_at(threshold: float, costs: Costs) -> Figure:
    """The mean cost of a transaction at a threshold, in the unit of the amount."""

    def figure(ranking: Ranking) -> Floats:
        lost = losses(ranking.labels, ranking.amounts, costs)
        missed = ranking.of_frauds(lost)[:, -1] - _sum_above(ranking, lost, threshold)
        return (missed + costs.review * _flagged_above(ranking, threshold)) / ranking.total

    return figure


def log_loss(ranking: Ranking) -> Floats:
    """The mean negative log-likelihood; scores are kept away from 0 and 1 by the resolution of a double."""
    tiny = np.finfo(np.float64).eps
    scores = np.clip(ranking.scores, tiny, 1 - tiny)
    return ranking.mean(-np.log(np.where(ranking.labels == 1, scores, 1 - scores)))


def brier(ranking: Ranking) -> Floats:
    """Mean squared difference of score and truth (Brier 1950)."""
    return ranking.mean((ranking.scores - ranking.labels) ** 2)


def calibration_error(ranking: Ranking) -> Floats:
    """Expected calibration error over 15 bins of equal width (Guo et al. 2017).

    The mean distance, weighted by the rows of each bin, of the mean score and the share of frauds.
    """
    bins = np.minimum((ranking.scores * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(bins)) + 1])
    excess = np.add.reduceat(ranking.weights * (ranking.labels - ranking.scores), starts, axis=1)
    return np.asarray(np.abs(excess).sum(axis=1) / ranking.total)


def _within_budget(ranking: Ranking, values: Floats, share: float) -> Floats:
    """The sum of a value [n] of frauds among the highest scores that are `share` of the weight, shape [b]."""
    budget = share * ranking.total[:, None]
    sums, flagged = (np.pad(of, ((0, 0), (1, 0))) for of in (ranking.of_frauds(values), ranking.flagged))
    # The operating point up to which the budget is spent in full; its part in the next one is spent evenly.
    last = np.maximum((flagged <= budget).sum(axis=1) - 1, 0)[:, None]
    following = np.minimum(last + 1, flagged.shape[1] - 1)
    before, after = (np.take_along_axis(of, last, axis=1) for of in (sums, flagged))
    step, size = (
        np.take_along_axis(of, following, axis=1) - start for of, start in ((sums, before), (flagged, after))
    )
    part = np.divide(budget - after, size, out=np.zeros_like(size), where=size > 0)
    return np.asarray((before + part * step)[:, 0])


def _share_found(ranking: Ranking, values: Floats, share: float) -> Floats:
    return _ratio(_within_budget(ranking, values, share), ranking.of_frauds(values)[:, -1])


def _found_above(ranking: Ranking, threshold: float) -> Floats:
    return _sum_above(ranking, ranking.labels.astype(np.float64), threshold)


def _flagged_above(ranking: Ranking, threshold: float) -> Floats:
    return _sum_above(ranking, np.ones(len(ranking.scores)), threshold)


def _sum_above(ranking: Ranking, values: Floats, threshold: float) -> Floats:
    """The weighted sum of a value [n] over the rows at or above a threshold, shape [b]: they come first."""
    first = int(np.count_nonzero(ranking.scores >= threshold))
    return np.asarray(ranking.weights[:, :first] @ values[:first])


def _ratio(part: Floats, whole: Floats) -> Floats:
    """NaN, undefined, where the denominator is zero."""
    return np.divide(part, whole, out=np.full_like(part, np.nan, dtype=np.float64), where=whole > 0)
