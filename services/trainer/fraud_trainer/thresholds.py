"""Chooses the operating point on rows that neither fit the trees nor judge the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core.gate import GatePolicy
from fraud_core.metrics import Curve, curve

# Higher than every score, so that nothing is blocked.
NEVER: Final = 2.0
_Z: Final = 1.959964


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores from `threshold` on predict fraud; scores from `block_threshold` on block the transaction."""

    threshold: float
    block_threshold: float
    rule: str


def choose_thresholds(
    labels: NDArray[np.int8], scores: NDArray[np.float64], policy: GatePolicy, block_precision: float
) -> Thresholds:
    """The best F1 among the operating points that keep the policy's bounds on recall and FPR.

    Points whose 95 % intervals (Wilson) keep the bounds are preferred, so that the held-out part, a different
    sample, keeps them as well. If no point keeps them, the point with the best recall within the FPR bound is
    chosen, and the gate decides. A threshold lies midway between two scores, so that rounding differences
    between the engines do not change a prediction.

    Args:
        labels: 1 is fraud; both classes occur. Shape [n].
        scores: calibrated, shape [n].
    """
    points = curve(labels, scores)
    least_recall, most_fpr = policy.min_recall or 0.0, 1.0 if policy.max_fpr is None else policy.max_fpr
    recall_low, _ = _wilson(points.tp, points.positives)
    _, fpr_high = _wilson(points.fp, points.negatives)
    safely = (recall_low >= least_recall) & (fpr_high <= most_fpr)
    barely = (points.recall >= least_recall) & (points.fpr <= most_fpr)
    bounds = f"recall >= {least_recall:g} and FPR <= {most_fpr:g}"
    if least_recall == 0 and most_fpr == 1:
        chosen, rule = _best(points.f1, barely), "best F1"
    elif safely.any():
        chosen, rule = _best(points.f1, safely), f"best F1 where the 95 % intervals keep {bounds}"
    elif barely.any():
        chosen, rule = _best(points.f1, barely), f"best F1 with {bounds}"
    else:
        chosen = _best(points.recall, points.fpr <= most_fpr)
        rule = f"best recall with FPR <= {most_fpr:g}, since no point keeps {bounds}"
    block, block_rule = _block(points, chosen, block_precision)
    return Thresholds(
        threshold=_midway(points.thresholds, chosen),
        block_threshold=NEVER if block is None else _midway(points.thresholds, block),
        rule=f"{rule}; {block_rule}; on the calibration part of the validation rows",
    )


def _best(figure: NDArray[np.float64], allowed: NDArray[np.bool_]) -> int:
    """The strictest point with the highest figure; the strictest of all where none is allowed."""
    return int(np.argmax(np.where(allowed, figure, -1.0)))


def _block(points: Curve, chosen: int, precision: float) -> tuple[int | None, str]:
    reached = np.nonzero(points.precision[: chosen + 1] >= precision)[0]
    if not reached.size:
        return None, f"nothing is blocked, since precision {precision:g} is not reached"
    return int(reached[-1]), f"blocked from precision {precision:g} on"


def _midway(thresholds: NDArray[np.float64], index: int) -> float:
    """Between the score at `index` and the next lower one (0 below the lowest)."""
    upper = float(thresholds[index])
    lower = float(thresholds[index + 1]) if index + 1 < len(thresholds) else 0.0
    middle = (upper + lower) / 2
    return middle if lower < middle <= upper else upper


def _wilson(successes: NDArray[np.int64], trials: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`fraud_core.metrics.wilson_interval` for many counts of the same number of trials."""
    share = successes / trials
    spread = 1 + _Z * _Z / trials
    centre = (share + _Z * _Z / (2 * trials)) / spread
    half = _Z * np.sqrt(share * (1 - share) / trials + _Z * _Z / (4 * trials * trials)) / spread
    return centre - half, centre + half
