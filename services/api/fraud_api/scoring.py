"""Scores parsed transactions and builds the responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud_adapters.columnar import AnswerPart, ColumnarAnswer
from fraud_adapters.models.loading import Scores
from fraud_api.arrival import Arrival
from fraud_api.model_holder import Serving
from fraud_api.writer import Decided, Outcome
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.decision import Decision
from fraud_core.features import feature_matrix
from fraud_core.predictions import Predictions

POLICY_VERSION: Final = "0"  # there is no policy: the model's thresholds decide


@dataclass(frozen=True, slots=True)
class Scored:
    """Transactions with their predictions, row by row, and the model that scored them."""

    batch: Batch
    predictions: Predictions
    serving: Serving

    def as_role(self, role: str) -> Scored:
        """The same, predicted in another role than the champion's."""
        return replace(self, predictions=replace(self.predictions, role=role))

    def take(self, rows: Sequence[int]) -> Scored:
        """The rows, in that order."""
        return Scored(self.batch.take(rows), self.predictions.take(rows), self.serving)

    def stamped(self, arrivals: Sequence[Arrival]) -> Scored:
        """With every row's trace, and its latency: milliseconds from its request's arrival until now."""
        now = perf_counter()
        latencies = np.array([(now - arrival.started) * 1000 for arrival in arrivals], dtype=np.float32)
        traceparents = [arrival.traceparent for arrival in arrivals]
        return replace(self, predictions=self.predictions.stamped(latencies, traceparents))


def score_few(contract: Contract, serving: Serving, batch: Batch, arrivals: Sequence[Arrival]) -> Scored:
    """Score transactions of as many requests, with the engine that is fast for few (ONNX)."""
    features = feature_matrix(contract, batch)
    scored = _scored(batch, features, serving.model.score_few(features), serving)
    return scored.stamped(arrivals)


def score_batch(contract: Contract, serving: Serving, batch: Batch, arrivals: Sequence[Arrival]) -> Scored:
    """Score the transactions of one request, with the engine that is fast for many (XGBoost)."""
    features = feature_matrix(contract, batch)
    scored = _scored(batch, features, serving.model.score_batch(features), serving)
    return scored.stamped(arrivals)


def _scored(batch: Batch, features: NDArray[np.float32], scores: Scores, serving: Serving) -> Scored:
    manifest = serving.model.manifest
    predictions = Predictions.from_scores(
        scores.values,
        features,
        threshold=manifest.threshold,
        block_threshold=manifest.block_threshold,
        model_version=serving.version,
        engine=scores.engine,
        policy_version=POLICY_VERSION,
    )
    return Scored(batch, predictions, serving)


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """The rows of a batch that one model has scored."""

    rows: Sequence[int]
    scored: Scored


def arrow_answer(ids: list[str], parts: Sequence[ScoredPart]) -> ColumnarAnswer:
    """The columnar response: everything the consumer stores."""
    return ColumnarAnswer(ids, [_answer_part(part) for part in parts])


def _answer_part(part: ScoredPart) -> AnswerPart:
    manifest = part.scored.serving.model.manifest
    return AnswerPart(part.rows, part.scored.predictions, manifest.threshold, manifest.block_threshold)


def json_answers(scored: Scored, outcome: Outcome | None) -> list[dict[str, Any]]:
    """One answer per row; a row that was decided before gets the stored decision.

    Every answer about a transaction has the same length, padded with whitespace: load test tools such as `ab`
    count a response of another length as failed.
    """
    predictions = scored.predictions
    replayed = outcome.replayed if outcome else {}
    version, engine = predictions.model_version, predictions.engine
    rows = zip(
        scored.batch.ids,
        predictions.scores.tolist(),
        predictions.predicted.tolist(),
        predictions.decisions,
        predictions.latency_ms.tolist(),
        strict=True,
    )
    answers = []
    for identifier, score, predicted, decision, latency in rows:
        stored = replayed.get(identifier)
        decided = stored or Decided(score, predicted, decision, version, engine, latency)
        answers.append(_answer(identifier, decided, replayed=stored is not None))
    return answers


def _answer(identifier: str, decided: Decided, *, replayed: bool) -> dict[str, Any]:
    decision = Decision(decided.decision)
    return {
        "transaction_id": identifier,
        "prediction": int(decided.predicted),
        "probability": decided.score,
        "flag": decision.flag,
        "message": decision.message,
        "decision": decided.decision,
        "score": decided.score,
        "model_version": decided.model_version,
        "engine": decided.engine,
        "latency_ms": orjson.Fragment(b"%9.3f" % decided.latency_ms),
        "replayed": orjson.Fragment(b" true" if replayed else b"false"),
    }
