"""Platt's sigmoid: from a margin to a probability of fraud.

Platt, J. (1999), Probabilistic outputs for support vector machines; Newton's method with the stable
log-likelihood of Lin, Lin and Weng (2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.job.failures import LastingFailure
from fraud_core.manifest import Calibration

_STEPS = 100
_TOLERANCE = 1e-10
_RIDGE = 1e-12
# The precision of a normal prior around slope 1 and intercept 0, for margins that are logits already. It acts
# where the calibration part has some ten frauds, and vanishes where it has hundreds.
LOGIT_PRIOR = 3.0
_IDENTITY = np.array([1.0, 0.0])


class CalibrationError(LastingFailure):
    """The margins do not rank frauds above others; one sentence."""


def fit_sigmoid(
    margins: NDArray[np.float32],
    labels: NDArray[np.int8],
    row_weights: NDArray[np.float32] | None = None,
    *,
    prior: float = 0.0,
) -> Calibration:
    """Maximum likelihood with Platt's targets, which keep it finite where the classes are separable.

    Args:
        margins: of the model, shape [n].
        labels: 1 is fraud, shape [n]; both classes occur.
        row_weights: shape [n], or None if every row counts once.
        prior: the precision of a normal prior around the identity; 0: none.

    Raises:
        CalibrationError: the slope would not be positive.
    """
    truth = labels.astype(bool)
    share = np.ones(len(truth)) if row_weights is None else row_weights.astype(np.float64)
    frauds, others = float(share[truth].sum()), float(share[~truth].sum())
    targets = np.where(truth, (frauds + 1) / (frauds + 2), 1 / (others + 2))
    problem = _Problem(
        np.column_stack([margins, np.ones(len(truth))]).astype(np.float64), targets, share, prior
    )
    weights = np.array([0.0, np.log((frauds + 1) / (others + 1))])
    for _ in range(_STEPS):
        gradient, curvature = problem.slopes(weights)
        weights, moved = problem.descend(
            weights, np.asarray(np.linalg.solve(curvature, gradient), np.float64)
        )
        if not moved or np.max(np.abs(gradient)) < _TOLERANCE * len(targets):
            break
    if weights[0] <= 0:
        raise CalibrationError("The model does not rank frauds above other transactions on later data.")
    return Calibration(slope=float(weights[0]), intercept=float(weights[1]))


@dataclass(frozen=True, slots=True)
class _Problem:
    """The penalised log loss of slope and intercept [2]; `design` is [n, 2], the others are [n]."""

    design: NDArray[np.float64]
    targets: NDArray[np.float64]
    share: NDArray[np.float64]
    prior: float

    def loss(self, weights: NDArray[np.float64]) -> float:
        logits, away = self.design @ weights, weights - _IDENTITY
        losses = np.logaddexp(0, logits) - self.targets * logits
        return float(self.share @ losses + self.prior / 2 * (away @ away))

    def slopes(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The gradient [2] and the curvature [2, 2]."""
        scores = 0.5 * (1 + np.tanh(0.5 * (self.design @ weights)))
        gradient = self.design.T @ (self.share * (scores - self.targets))
        curvature = self.design.T @ (self.design * (self.share * scores * (1 - scores))[:, None])
        return (
            gradient + self.prior * (weights - _IDENTITY),
            curvature + (self.prior + _RIDGE) * np.eye(2),
        )

    def descend(
        self, weights: NDArray[np.float64], step: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], bool]:
        """Newton's step, halved until it lowers the loss; False where none does."""
        before, scale = self.loss(weights), 1.0
        while scale > 1e-8:
            candidate = weights - scale * step
            if self.loss(candidate) < before:
                return candidate, True
            scale /= 2
        return weights, False
