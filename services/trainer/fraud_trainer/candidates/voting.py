"""A weighted vote of fitted candidates: non-negative weights of their calibrated margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_trainer.candidates.forests import IsolationForest, RandomForest
from fraud_trainer.candidates.model_types import CandidateFailed, Fitted, Rows, WeightedPart, row_weights
from fraud_trainer.train.calibration import CalibrationError

VOTING: Final = "voting"
_RIDGE: Final = 1e-3


def vote_of(candidates: Sequence[Fitted], stopping: Rows, trees: Mapping[str, int]) -> Fitted:
    """Weigh the candidates by what minimises the log loss on `stopping`, which none of them was fitted on.

    Each margin first becomes a logit by its own sigmoid, so that weights can be compared. A small penalty
    draws the weights to equal ones, which decides where there are few frauds. A member whose margins do not
    rank frauds above others, or whose weight is zero, is left out.

    Args:
        trees: how many trees of a forest take part, by the candidate's name; all where it is not named. In a
            vote the others make up for what the rest of its trees would add.

    Raises:
        CandidateFailed: fewer than two members remain.
    """
    parts: list[WeightedPart] = []
    columns: list[NDArray[np.float64]] = []
    for candidate in (_shortened(one, trees) for one in candidates):
        try:
            found = candidate.calibrated(stopping)
        except CalibrationError:
            continue
        slope, intercept = found.sigmoid.slope, found.sigmoid.intercept
        parts.append(WeightedPart(candidate.name, candidate.parts[0].part, 1.0, slope, intercept))
        columns.append(slope * found.margins.astype(np.float64) + intercept)
    if len(parts) < 2:
        raise CandidateFailed(
            f"A vote needs two members that rank frauds above others; there are {len(parts)}."
        )
    weights, bias = _weights(
        np.column_stack(columns), stopping.labels.astype(np.float64), row_weights(stopping)
    )
    kept = [
        WeightedPart(part.name, part.part, float(weight), part.slope, part.intercept)
        for part, weight in zip(parts, weights, strict=True)
        if weight > 0
    ]
    if len(kept) < 2:
        raise CandidateFailed(f"The vote gives all weight to {kept[0].name}, which is a candidate itself.")
    weights_by_name = {f"weight_{part.name}": round(part.weight, 6) for part in kept}
    return Fitted(VOTING, tuple(kept), bias, None, True, weights_by_name)


def _shortened(candidate: Fitted, trees: Mapping[str, int]) -> Fitted:
    [member] = candidate.parts
    if candidate.name not in trees or not isinstance(member.part, RandomForest | IsolationForest):
        return candidate
    return replace(candidate, parts=(replace(member, part=member.part.first(trees[candidate.name])),))


def _weights(
    logits: NDArray[np.float64], labels: NDArray[np.float64], row_weight: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """Non-negative weights [m] of logits [n, m], and a bias."""
    from scipy.optimize import minimize  # noqa: PLC0415 - takes half a second

    count = logits.shape[1]
    share = row_weight.astype(np.float64) / row_weight.sum(dtype=np.float64)
    equal = np.full(count, 1 / count)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = logits @ values[:-1] + values[-1]
        away = values[:-1] - equal
        cost = share @ (np.logaddexp(0, total) - labels * total) + _RIDGE * (away @ away)
        error = share * (0.5 * (1 + np.tanh(0.5 * total)) - labels)
        return cost, np.append(logits.T @ error + 2 * _RIDGE * away, error.sum())

    found = minimize(
        loss,
        np.append(equal, 0.0),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * count + [(None, None)],
        options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-10},
    )
    return found.x[:-1], float(found.x[-1])
