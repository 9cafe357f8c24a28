"""Maps scores to decisions."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Decision(StrEnum):
    """What is done with a transaction."""

    APPROVE = "approve"
    REVIEW = "review"
    BLOCK = "block"

    @property
    def flag(self) -> str:
        return _FLAGS[self]

    @property
    def message(self) -> str:
        return _MESSAGES[self]


_FLAGS = {Decision.APPROVE: "LEGITIMATE", Decision.REVIEW: "REVIEW", Decision.BLOCK: "FRAUD"}
_MESSAGES = {
    Decision.APPROVE: "The transaction looks legitimate.",
    Decision.REVIEW: "The transaction should be reviewed by an analyst.",
    Decision.BLOCK: "The transaction looks fraudulent and should be blocked.",
}
BY_RANK = (Decision.APPROVE, Decision.REVIEW, Decision.BLOCK)


def is_fraud(scores: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """The model's own verdict at its operating point; scores are compared unrounded. Shapes [n] → [n]."""
    return np.asarray(scores >= threshold)


def decision_ranks(scores: NDArray[np.float64], threshold: float, block_threshold: float) -> NDArray[np.int8]:
    """The positions of the decisions in `BY_RANK`: 0 below `threshold`, 2 from `block_threshold` on, else 1.

    Shape [n] → [n].

    Raises:
        ValueError: `block_threshold` lies below `threshold`, or a score is NaN.
    """
    if block_threshold < threshold:
        raise ValueError(f"block_threshold {block_threshold} lies below threshold {threshold}")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    return np.asarray((scores >= threshold).astype(np.int8) + (scores >= block_threshold), dtype=np.int8)


def decide(scores: NDArray[np.float64], threshold: float, block_threshold: float) -> list[Decision]:
    """Approve below `threshold`, review from it on, block from `block_threshold` on. Shape [n] → n decisions.

    Raises:
        ValueError: as `decision_ranks`.
    """
    return [BY_RANK[rank] for rank in decision_ranks(scores, threshold, block_threshold).tolist()]
