"""How good a model is on rows nothing was fitted on."""

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


def figures(found: Confusion, points: Curve, policy: GatePolicy) -> Figures:
    """Every figure that is reported, and those the policy asks for; None where undefined.

    The intervals of recall, precision and FPR are Wilson's, 95 %.
    """
    result: Figures = {
        "recall": found.recall,
        "precision": found.precision,
        "fpr": found.fpr,
        "fnr": found.fnr,
        "f1": found.f1,
        "accuracy": found.accuracy,
        "roc_auc": roc_auc(points),
        "average_precision": average_precision(points),
    }
    counts = {
        "recall": (found.tp, found.tp + found.fn),
        "precision": (found.tp, found.tp + found.fp),
        "fpr": (found.fp, found.fp + found.tn),
    }
    for name, (part, whole) in counts.items():
        result[f"{name}_low"], result[f"{name}_high"] = wilson_interval(part, whole)
    for name in ("tp", "fp", "tn", "fn"):
        result[name] = float(getattr(found, name))
    if policy.min_recall_at_precision is not None:
        wanted = policy.min_recall_at_precision
        result[wanted.metric] = recall_at_precision(points, wanted.precision)
    return result


def brier(labels: NDArray[np.int8], scores: NDArray[np.float64]) -> float:
    """Mean squared difference of score and truth (Brier 1950): how well probabilities are calibrated."""
    return float(np.mean((scores - labels) ** 2))
