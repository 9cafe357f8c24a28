"""What errors of a fraud model cost, in the unit of the contract's amount."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fraud_core.metrics import Curve


class Costs(BaseModel):
    """A fraud that is not flagged costs its amount and a fee; each alert costs its review."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    missed_fraud_fee: float = Field(default=20.0, ge=0)
    review: float = Field(default=5.0, ge=0)


def losses(
    labels: NDArray[np.int8], amounts: NDArray[np.float64] | None, costs: Costs
) -> NDArray[np.float64]:
    """What each row costs if it is not flagged, [n] → [n]; without amounts a missed fraud costs its fee."""
    lost = np.zeros(len(labels)) if amounts is None else amounts
    return np.where(labels.astype(bool), lost + costs.missed_fraud_fee, 0.0)


def cost_by_point(
    points: Curve,
    labels: NDArray[np.int8],
    scores: NDArray[np.float64],
    amounts: NDArray[np.float64] | None,
    costs: Costs,
) -> NDArray[np.float64]:
    """The mean cost of a transaction at each operating point (Elkan 2001, with costs that depend on the row).

    Args:
        points: `curve(labels, scores)`, with k points.
        labels, scores, amounts: shape [n].

    Returns:
        Shape [k], in the unit of the amount.
    """
    order = np.argsort(-scores, kind="stable")
    flagged = points.tp + points.fp
    avoided = np.cumsum(losses(labels, amounts, costs)[order])
    total = avoided[-1] - avoided[flagged - 1] + costs.review * flagged
    return np.asarray(total / len(labels))
