"""Figures of weighted scores, with intervals by resampling transactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
REVIEW_SHARE: Final = 0.005
BINS: Final = 20


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of rows in descending order, so that a resampling only needs sums; all [n]."""

    scores: Vector
    labels: Vector
    weights: Vector
    amounts: Vector
    order: NDArray[np.intp]  # of the rows as they came

    @classmethod
    def of(cls, scores: Vector, labels: Vector, weights: Vector, amounts: Vector) -> Scored:
        order = np.argsort(-scores, kind="stable")
        return cls(scores[order], labels[order], weights[order], amounts[order], order)

    def resampled(self, counts: Vector) -> Scored:
        """The rows, each as often as `counts` says, in the order in which they came."""
        return Scored(self.scores, self.labels, self.weights * counts[self.order], self.amounts, self.order)


def average_precision(rows: Scored) -> float:
    found, flagged = np.cumsum(rows.weights * rows.labels), np.cumsum(rows.weights)
    ends = _ends(rows)
    found, flagged = found[ends], flagged[ends]
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
    return float(np.sum(np.diff(found, prepend=0) * precision) / found[-1]) if found[-1] else np.nan


def recall_at_precision(rows: Scored, precision: float = 0.8) -> float:
    ends = _ends(rows)
    found, flagged = np.cumsum(rows.weights * rows.labels)[ends], np.cumsum(rows.weights)[ends]
    reached = found[found >= precision * flagged]
    return float(reached.max() / found[-1]) if reached.size and found[-1] else 0.0


def recall_at_fpr(rows: Scored, fpr: float = 0.01) -> float:
    ends = _ends(rows)
    found, wrong = (np.cumsum(rows.weights * kind)[ends] for kind in (rows.labels, 1 - rows.labels))
    return float(found[wrong <= fpr * wrong[-1]].max(initial=0) / found[-1]) if found[-1] else np.nan


def amount_recall(rows: Scored) -> float:
    """The share of the frauds' money in the 0.5 % of transactions with the highest scores."""
    reviewed = np.cumsum(rows.weights) <= REVIEW_SHARE * rows.weights.sum()
    money = rows.weights * rows.labels * rows.amounts
    return float(money[reviewed].sum() / money.sum()) if money.sum() else np.nan


def calibration_error(rows: Scored) -> float:
    """Expected calibration error: the mean of |mean score − fraud rate| over bins of scores.

    With 0.2 % frauds, bins of equal weight would put every fraud into one: 10 bins divide the frauds, 10 the
    others, by score; each counts by its weight.
    """
    shares = [rows.weights * rows.labels, rows.weights * (1 - rows.labels)]
    edges = np.zeros(len(rows.scores), dtype=np.int64)
    for share in shares:
        edges += np.minimum(
            (np.cumsum(share) / max(share.sum(), 1e-12) * BINS / 2).astype(np.int64), BINS // 2 - 1
        )
    size = np.bincount(edges, rows.weights)
    gap = np.bincount(edges, rows.weights * (rows.scores - rows.labels))
    return float(np.abs(gap).sum() / size.sum())


def log_loss(rows: Scored) -> float:
    scores = np.clip(rows.scores, 1e-12, 1 - 1e-12)
    loss = -(rows.labels * np.log(scores) + (1 - rows.labels) * np.log1p(-scores))
    return float(np.average(loss, weights=rows.weights))


FIGURES: Final[Mapping[str, Callable[[Scored], float]]] = {
    "average precision": average_precision,
    "recall at precision .8": recall_at_precision,
    "recall at FPR 1 %": recall_at_fpr,
    "amount recall at 0.5 %": amount_recall,
    "calibration error": calibration_error,
    "log loss": log_loss,
}


def resamplings(rows: int, count: int, seed: int) -> NDArray[np.float64]:
    """How often each row occurs in each bootstrap sample, Poisson of mean 1, [count, rows]."""
    return np.random.default_rng(seed).poisson(1.0, (count, rows)).astype(np.float64)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % by percentiles."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _ends(rows: Scored) -> NDArray[np.intp]:
    """The last row of each run of equal scores."""
    return np.append(np.nonzero(np.diff(rows.scores))[0], len(rows.scores) - 1)
