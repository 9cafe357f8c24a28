"""From parsed transactions to scores, decisions, and the answers that show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud_adapters.columnar import Answer
from fraud_adapters.scored import Predictions
from fraud_adapters.scoring import Scores
from fraud_api.model_holder import Serving
from fraud_api.writer import Decided, Outcome
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.decision import Decision, decide, is_fraud
from fraud_core.features import feature_matrix

POLICY_VERSION: Final = "0"  # no policy: the model's thresholds decide


@dataclass(frozen=True, slots=True)
class Scored:
    """Transactions with what the model says of them, row by row."""

    batch: Batch
    predictions: Predictions
    serving: Serving


def score_single(contract: Contract, serving: Serving, batch: Batch) -> Scored:
    """Score one transaction with the engine that is fast for one (ONNX)."""
    features = feature_matrix(contract, batch)
    return _scored(batch, features, serving.model.score_single(features), serving)


def score_batch(contract: Contract, serving: Serving, batch: Batch) -> Scored:
    """Score many transactions with the engine that is fast for many (XGBoost)."""
    features = feature_matrix(contract, batch)
    return _scored(batch, features, serving.model.score_batch(features), serving)


def _scored(batch: Batch, features: NDArray[np.float32], said: Scores, serving: Serving) -> Scored:
    scores, manifest = said.values, serving.model.manifest
    rows = len(batch)
    predictions = Predictions(
        scores=scores,
        predicted=is_fraud(scores, manifest.threshold),
        decisions=[
            str(decision) for decision in decide(scores, manifest.threshold, manifest.block_threshold)
        ],
        model_version=serving.version,
        engine=said.engine,
        feature_vectors=features,
        policy_version=POLICY_VERSION,
        latency_ms=np.zeros(rows, dtype=np.float32),
        traceparents=[None] * rows,
        prediction_time=None,
    )
    return Scored(batch, predictions, serving)


def arrow_answer(scored: Scored) -> Answer:
    """Everything the consumer stores, in columns."""
    predictions, manifest = scored.predictions, scored.serving.model.manifest
    return Answer(
        ids=scored.batch.ids,
        scores=predictions.scores,
        predicted=predictions.predicted,
        decisions=list(predictions.decisions),
        feature_vectors=predictions.feature_vectors,
        model_version=predictions.model_version,
        engine=predictions.engine,
        threshold=manifest.threshold,
        block_threshold=manifest.block_threshold,
        policy_version=predictions.policy_version,
    )


def json_answers(scored: Scored, outcome: Outcome | None) -> list[dict[str, Any]]:
    """One answer a row; a row that was decided before shows the stored decision.

    Every answer about one transaction is written to the same length: whitespace fills up what varies. Load
    tests such as `ab` take an answer of another length for a failed one.
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
        known = replayed.get(identifier)
        decided = known or Decided(score, predicted, decision, version, engine, latency)
        answers.append(_answer(identifier, decided, replayed=known is not None))
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
