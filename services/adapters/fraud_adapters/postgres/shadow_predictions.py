"""The table `shadow_predictions`: what a model that does not decide would have said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg2.extras import execute_values

from fraud_core.predictions import Predictions

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def store_shadow(cursor: Cursor, ids: Sequence[str], predictions: Predictions) -> None:
    """Store predictions of n transactions; one that this version has made already stays as it is."""
    shared = (
        predictions.model_version,
        predictions.role,
        predictions.engine,
        predictions.policy_version,
    )
    rows = zip(
        ids,
        predictions.scores.tolist(),
        predictions.scores.tolist(),
        predictions.predicted.tolist(),
        predictions.decisions,
        predictions.feature_vectors.tolist(),
        predictions.latency_ms.tolist(),
        predictions.traceparents,
        strict=True,
    )
    execute_values(
        cursor,
        "INSERT INTO shadow_predictions (transaction_id, score, fraud_score, is_fraud_predicted, decision,"
        " feature_vector, latency_ms, traceparent, model_version, role, engine, policy_version) VALUES %s"
        " ON CONFLICT (transaction_id, model_version) DO NOTHING",
        [(*row, *shared) for row in rows],
        page_size=len(ids) or 1,
    )
