"""Metrics of a binary classifier; the tests check them against scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts at one threshold. A ratio whose denominator is zero is None: undefined, not zero."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def total(self) -> int:
        return self.tp + self.fp + self.tn + self.fn

    @property
    def recall(self) -> float | None:
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def precision(self) -> float | None:
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def fpr(self) -> float | None:
        return _ratio(self.fp, self.fp + self.tn)

    @property
    def fnr(self) -> float | None:
        return _ratio(self.fn, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float | None:
        return _ratio(self.tp + self.tn, self.total)


@dataclass(frozen=True, slots=True)
class Curve:
    """Every operating point of a classifier, from the strictest threshold down.

    Attributes:
        thresholds: distinct scores, descending, shape [k]; a row is flagged where score >= threshold.
        tp, fp: counts flagged at each threshold, shape [k].
        positives, negatives: the total counts.
    """

    thresholds: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    positives: int
    negatives: int

    @property
    def recall(self) -> NDArray[np.float64]:
        return self.tp / self.positives

    @property
    def fpr(self) -> NDArray[np.float64]:
        return self.fp / self.negatives

    @property
    def precision(self) -> NDArray[np.float64]:
        return self.tp / (self.tp + self.fp)

    @property
    def f1(self) -> NDArray[np.float64]:
        return 2 * self.tp / (self.tp + self.fp + self.positives)


def confusion(labels: ArrayLike, predicted: ArrayLike) -> Confusion:
    """Count outcomes; `labels` (1 is fraud) and `predicted` have shape [n].

    Raises:
        ValueError: the shapes differ.
    """
    truth, flagged = np.asarray(labels, dtype=bool), np.asarray(predicted, dtype=bool)
    if truth.shape != flagged.shape:
        raise ValueError(f"labels have shape {truth.shape}, predictions {flagged.shape}")
    return Confusion(
        tp=int(np.count_nonzero(truth & flagged)),
        fp=int(np.count_nonzero(~truth & flagged)),
        tn=int(np.count_nonzero(~truth & ~flagged)),
        fn=int(np.count_nonzero(truth & ~flagged)),
    )


def curve(labels: ArrayLike, scores: ArrayLike) -> Curve:
    """All operating points. `labels` in {0, 1} and `scores` have shape [n]; ties in score move together.

    Raises:
        ValueError: shapes differ, a score is NaN, or one of the classes is absent.
    """
    truth = np.asarray(labels, dtype=np.int64)
    values = np.asarray(scores, dtype=np.float64)
    positives, negatives = check_rows(truth, values)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    ends = np.append(np.nonzero(np.diff(ranked))[0], len(ranked) - 1)
    tp = np.cumsum(truth[order])[ends]
    return Curve(ranked[ends], tp, ends + 1 - tp, positives, negatives)


def check_rows(labels: NDArray[np.integer[Any]], scores: NDArray[np.float64]) -> tuple[int, int]:
    """The numbers of frauds and of other rows.

    Raises:
        ValueError: shapes differ, a score is NaN, or one of the classes is absent.
    """
    if labels.shape != scores.shape:
        raise ValueError(f"labels have shape {labels.shape}, scores {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError(f"a curve needs both classes: there are {positives} frauds and {negatives} others")
    return positives, negatives


class OperatingPoints(Protocol):
    """The ratios of k operating points, strictest first: of one sample, shape [k], or of b, shape [b, k]."""

    @property
    def recall(self) -> NDArray[np.float64]: ...

    @property
    def fpr(self) -> NDArray[np.float64]: ...

    @property
    def precision(self) -> NDArray[np.float64]: ...


def average_precision(points: Curve) -> float:
    """Sum over operating points of the step in recall times the precision (no interpolation)."""
    return float(average_precisions(points))


def roc_auc(points: Curve) -> float:
    """Area under the ROC curve, by trapezia: ties count half."""
    return float(roc_aucs(points))


def recall_at_precision(points: Curve, precision: float) -> float:
    """The best recall among operating points with at least this precision; 0 if there is none."""
    return float(recalls_at_precision(points, precision))


# The same of many samples at once: one number a sample, [b, k] → [b].


def average_precisions(points: OperatingPoints) -> NDArray[np.float64]:
    steps = np.diff(points.recall, prepend=0.0)
    return np.asarray(np.sum(steps * points.precision, axis=-1))


def roc_aucs(points: OperatingPoints) -> NDArray[np.float64]:
    recall = points.recall
    middles = recall - np.diff(recall, prepend=0.0) / 2
    return np.asarray(np.sum(np.diff(points.fpr, prepend=0.0) * middles, axis=-1))


def recalls_at_precision(points: OperatingPoints, precision: float) -> NDArray[np.float64]:
    return np.asarray(np.max(np.where(points.precision >= precision, points.recall, 0.0), axis=-1))


def recalls_at_fpr(points: OperatingPoints, fpr: float) -> NDArray[np.float64]:
    """The best recall among operating points with at most this false positive rate; 0 if there is none."""
    return np.asarray(np.max(np.where(points.fpr <= fpr, points.recall, 0.0), axis=-1))


def wilson_interval(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927), 95 % by default; (0, 1) without trials.

    Of weighted rows, `trials` is their effective number (Kish 1965), and `successes` that times the share.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
