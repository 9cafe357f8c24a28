"""The metrics of a model on the held-out part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fraud_core.gate import GatePolicy
from fraud_core.metrics import (
    Confusion,
    Curve,
    average_precision,
    recall_at_precision,
    roc_auc,
    wilson_interval,
)

Figures = dict[str, float | None]


def figures(confusion: Confusion, points: Curve, policy: GatePolicy) -> Figures:
    """All reported metrics, and those that the policy requires; None if undefined.

    The intervals of recall, precision and FPR are Wilson's, 95 %.
    """
    result: Figures = {
        "recall": confusion.recall,
        "precision": confusion.precision,
        "fpr": confusion.fpr,
        "fnr": confusion.fnr,
        "f1": confusion.f1,
        "accuracy": confusion.accuracy,
        "roc_auc": roc_auc(points),
        "average_precision": average_precision(points),
    }
    counts = {
        "recall": (confusion.tp, confusion.tp + confusion.fn),
        "precision": (confusion.tp, confusion.tp + confusion.fp),
        "fpr": (confusion.fp, confusion.fp + confusion.tn),
    }
    for name, (part, whole) in counts.items():
        result[f"{name}_low"], result[f"{name}_high"] = wilson_interval(part, whole)
    for name in ("tp", "fp", "tn", "fn"):
        result[name] = float(getattr(confusion, name))
    if policy.min_recall_at_precision is not None:
        point = policy.min_recall_at_precision
        result[point.metric] = recall_at_precision(points, point.precision)
    return result


def brier(labels: NDArray[np.int8], scores: NDArray[np.float64]) -> float:
    """Mean squared difference of score and truth (Brier 1950): how well probabilities are calibrated."""
    return float(np.mean((scores - labels) ** 2))
