"""Platt's sigmoid: from a margin to a probability of fraud.

Platt, J. (1999), Probabilistic outputs for support vector machines; Newton's method with the stable
log-likelihood of Lin, Lin and Weng (2007).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.job.failures import LastingFailure
from fraud_core.manifest import Calibration

_STEPS = 100
_TOLERANCE = 1e-10
_RIDGE = 1e-12


class CalibrationError(LastingFailure):
    """The margins do not rank frauds above others; one sentence."""


def fit_sigmoid(
    margins: NDArray[np.float32], labels: NDArray[np.int8], row_weights: NDArray[np.float32] | None = None
) -> Calibration:
    """Maximum likelihood with Platt's targets, which keep it finite where the classes are separable.

    Args:
        margins: of the model, shape [n].
        labels: 1 is fraud, shape [n]; both classes occur.
        row_weights: shape [n], or None if every row counts once.

    Raises:
        CalibrationError: the slope would not be positive.
    """
    values, truth = margins.astype(np.float64), labels.astype(bool)
    share = np.ones(len(values)) if row_weights is None else row_weights.astype(np.float64)
    frauds, others = float(share[truth].sum()), float(share[~truth].sum())
    targets = np.where(truth, (frauds + 1) / (frauds + 2), 1 / (others + 2))
    weights = np.array([0.0, np.log((frauds + 1) / (others + 1))])
    design = np.column_stack([values, np.ones_like(values)])
    loss = _loss(design @ weights, targets, share)
    for _ in range(_STEPS):
        probabilities = 0.5 * (1 + np.tanh(0.5 * (design @ weights)))
        gradient = design.T @ (share * (probabilities - targets))
        curvature = design.T @ (design * (share * probabilities * (1 - probabilities))[:, None])
        step = np.linalg.solve(curvature + _RIDGE * np.eye(2), gradient)
        weights, loss, moved = _descend(design, targets, share, weights, step, loss)
        if not moved or np.max(np.abs(gradient)) < _TOLERANCE * len(values):
            break
    if weights[0] <= 0:
        raise CalibrationError("The model does not rank frauds above other transactions on later data.")
    return Calibration(slope=float(weights[0]), intercept=float(weights[1]))


def _descend(  # noqa: PLR0917
    design: NDArray[np.float64],
    targets: NDArray[np.float64],
    share: NDArray[np.float64],
    weights: NDArray[np.float64],
    step: NDArray[np.float64],
    loss: float,
) -> tuple[NDArray[np.float64], float, bool]:
    """Newton's step, halved until it lowers the loss; False where none does."""
    scale = 1.0
    while scale > 1e-8:
        candidate = weights - scale * step
        reached = _loss(design @ candidate, targets, share)
        if reached < loss:
            return candidate, reached, True
        scale /= 2
    return weights, loss, False


def _loss(logits: NDArray[np.float64], targets: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    return float(np.sum(share * (np.logaddexp(0, logits) - targets * logits)))
