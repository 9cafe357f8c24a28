"""Chooses the operating point on rows that neither fit the trees nor judge the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fraud_core.gate import GatePolicy
from fraud_core.metrics import Curve, curve
from fraud_core.money import Costs, cost_by_point

# Higher than every score, so that nothing is blocked.
NEVER: Final = 2.0
_Z: Final = 1.959964


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores from `threshold` on predict fraud; scores from `block_threshold` on block the transaction."""

    threshold: float
    block_threshold: float
    rule: str


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """By what the threshold is chosen: the best F1, the lowest expected cost, or a budget of alerts.

    Attributes:
        amounts: of the rows, shape [n]; None if the contract has no amount.
        costs: for the rule `cost`.
        budget: the share of transactions that may be alerts, for the rule `budget`.
    """

    kind: Literal["f1", "cost", "budget"] = "f1"
    amounts: NDArray[np.float64] | None = None
    costs: Costs = Costs()  # noqa: RUF009, it is frozen
    budget: float = 0.005


def choose_thresholds(
    labels: NDArray[np.int8],
    scores: NDArray[np.float64],
    policy: GatePolicy,
    block_precision: float,
    by: ThresholdRule = ThresholdRule(),
) -> Thresholds:
    """The best operating point by a rule, among those that keep the policy's bounds on recall and FPR.

    Points whose 95 % intervals (Wilson) keep the bounds are preferred, so that the held-out part, a different
    sample, keeps them as well. If no point keeps them, the point with the best recall within the FPR bound is
    chosen, and the gate decides. A budget is kept whatever the policy says. A threshold lies midway between
    two scores, so that rounding differences between the engines do not change a prediction.

    Args:
        labels: 1 is fraud; both classes occur. Shape [n].
        scores: calibrated, shape [n].
    """
    points = curve(labels, scores)
    if by.kind == "budget":
        chosen, rule = _within_budget(points, by.budget)
    else:
        chosen, rule = _within_bounds(points, policy, *_figure(points, labels, scores, by))
    block, block_rule = _block(points, chosen, block_precision)
    return Thresholds(
        threshold=_midway(points.thresholds, chosen),
        block_threshold=NEVER if block is None else _midway(points.thresholds, block),
        rule=f"{rule}; {block_rule}; on the calibration part of the validation rows",
    )


def _figure(
    points: Curve, labels: NDArray[np.int8], scores: NDArray[np.float64], by: ThresholdRule
) -> tuple[NDArray[np.float64], str]:
    """What is to be highest, by operating point, and its name."""
    if by.kind == "f1":
        return points.f1, "best F1"
    name = (
        f"lowest expected cost (a missed fraud costs {'its amount and ' if by.amounts is not None else ''}"
        f"{by.costs.missed_fraud_fee:g}, an alert {by.costs.review:g})"
    )
    return -cost_by_point(points, labels, scores, by.amounts, by.costs), name


def _within_budget(points: Curve, budget: float) -> tuple[int, str]:
    alerts = (points.tp + points.fp) / (points.positives + points.negatives)
    within = np.flatnonzero(alerts <= budget)
    if not within.size:
        return 0, f"the strictest point, since even its alerts exceed the budget of {budget:.3%}"
    return int(within[-1]), f"as many alerts as the budget of {budget:.3%} of all transactions allows"


def _within_bounds(
    points: Curve, policy: GatePolicy, figure: NDArray[np.float64], name: str
) -> tuple[int, str]:
    least_recall, most_fpr = policy.min_recall or 0.0, 1.0 if policy.max_fpr is None else policy.max_fpr
    recall_low, _ = _wilson(points.tp, points.positives)
    _, fpr_high = _wilson(points.fp, points.negatives)
    safely = (recall_low >= least_recall) & (fpr_high <= most_fpr)
    barely = (points.recall >= least_recall) & (points.fpr <= most_fpr)
    bounds = f"recall >= {least_recall:g} and FPR <= {most_fpr:g}"
    if least_recall == 0 and most_fpr == 1:
        return _best(figure, barely), name
    if safely.any():
        return _best(figure, safely), f"{name} where the 95 % intervals keep {bounds}"
    if barely.any():
        return _best(figure, barely), f"{name} with {bounds}"
    chosen = _best(points.recall, points.fpr <= most_fpr)
    return chosen, f"best recall with FPR <= {most_fpr:g}, since no point keeps {bounds}"


def _best(figure: NDArray[np.float64], allowed: NDArray[np.bool_]) -> int:
    """The strictest point with the highest figure; the strictest of all where none is allowed."""
    return int(np.argmax(np.where(allowed, figure, -np.inf)))


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
