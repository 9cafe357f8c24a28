"""The predictions of a model for a set of transactions, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fraud_core.decision import decide, is_fraud


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of one model for n transactions with k features.

    Attributes:
        prediction_time: None means the database's clock.
        role: the role of the model: champion, canary, or batch.
        deciding: whether the predictions decide, as those of a champion or canary do; others belong to a run
            (`run_id`), which stores one prediction for each transaction.
    """

    scores: NDArray[np.float64]  # [n], in [0, 1]
    predicted: NDArray[np.bool_]  # [n], score ≥ the model's threshold
    decisions: Sequence[str]  # n of approve, review, block
    model_version: str
    engine: str
    feature_vectors: NDArray[np.float32]  # [n, k]
    policy_version: str
    latency_ms: NDArray[np.float32]  # [n]
    traceparents: Sequence[str | None]  # n
    prediction_time: datetime | None = None
    role: str = "champion"
    deciding: bool = True
    run_id: str | None = None

    @classmethod
    def from_scores(
        cls,
        scores: NDArray[np.float64],
        feature_vectors: NDArray[np.float32],
        *,
        threshold: float,
        block_threshold: float,
        model_version: str,
        engine: str,
        policy_version: str,
    ) -> Self:
        """Predictions from scores and the model's thresholds, without latency and trace."""
        return cls(
            scores=scores,
            predicted=is_fraud(scores, threshold),
            decisions=[str(decision) for decision in decide(scores, threshold, block_threshold)],
            model_version=model_version,
            engine=engine,
            feature_vectors=feature_vectors,
            policy_version=policy_version,
            latency_ms=np.zeros(len(scores), dtype=np.float32),
            traceparents=[None] * len(scores),
        )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def shared(self) -> tuple[object, ...]:
        """The values shared by all rows; predictions can be concatenated only if these are equal."""
        return (
            self.model_version,
            self.engine,
            self.policy_version,
            self.prediction_time,
            self.role,
            self.deciding,
            self.run_id,
        )

    def described(self, *, model_version: str, engine: str, policy_version: str, role: str) -> Self:
        """These predictions as those of a model."""
        return replace(
            self, model_version=model_version, engine=engine, policy_version=policy_version, role=role
        )

    def stamped(self, latency_ms: float | NDArray[np.float32], traceparents: Sequence[str | None]) -> Self:
        """These predictions with their traces, and with a common latency or one for each."""
        latencies = np.full(len(self), latency_ms, dtype=np.float32)
        return replace(self, latency_ms=latencies, traceparents=traceparents)

    def take(self, index: Sequence[int] | slice) -> Self:
        """The rows at `index`, in that order."""
        rows = range(len(self))[index] if isinstance(index, slice) else index
        picker = index if isinstance(index, slice) else np.asarray(index, dtype=np.intp)
        return replace(
            self,
            scores=self.scores[picker],
            predicted=self.predicted[picker],
            decisions=[self.decisions[row] for row in rows],
            feature_vectors=self.feature_vectors[picker],
            latency_ms=self.latency_ms[picker],
            traceparents=[self.traceparents[row] for row in rows],
        )

    @staticmethod
    def concat(parts: Sequence[Predictions]) -> Predictions:
        """All rows of predictions that share a model, one after the other.

        Raises:
            ValueError: `parts` is empty, or the shared values differ.
        """
        if not parts:
            raise ValueError("there are no predictions to concatenate")
        first = parts[0]
        if len(parts) == 1:
            return first
        if any(part.shared != first.shared for part in parts):
            raise ValueError("the predictions are of different models, roles or runs")
        return replace(
            first,
            scores=np.concatenate([part.scores for part in parts]),
            predicted=np.concatenate([part.predicted for part in parts]),
            decisions=[decision for part in parts for decision in part.decisions],
            feature_vectors=np.concatenate([part.feature_vectors for part in parts]),
            latency_ms=np.concatenate([part.latency_ms for part in parts]),
            traceparents=[traceparent for part in parts for traceparent in part.traceparents],
        )


@dataclass(frozen=True, slots=True)
class PredictedRows:
    """The rows of a batch that one model has scored, and its predictions of them."""

    rows: Sequence[int]
    predictions: Predictions
