"""The table `shadow_predictions`: what a model that does not decide would have said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fraud_adapters.postgres.rows import prediction_arguments, text_array
from fraud_core.predictions import Predictions

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def store_shadow(cursor: Cursor, ids: Sequence[str], predictions: Predictions) -> None:
    """Store predictions of n transactions; one that this version has made already stays as it is.

    The commit does not wait for the disk: what a crash takes of the last moments decided nothing.

    The features are those of the prediction that decided, and are not stored again.
    """
    cursor.execute("SET LOCAL synchronous_commit = off")
    cursor.execute(_INSERT, {"ids": text_array(ids), **prediction_arguments(predictions)})


_INSERT: Final = """
    INSERT INTO shadow_predictions (transaction_id, score, fraud_score, is_fraud_predicted, decision,
        latency_ms, traceparent, model_version, role, engine, policy_version)
    SELECT id, score, score, predicted, decision,
        latency, traceparent, %(model_version)s, %(role)s, %(engine)s, %(policy_version)s
    FROM unnest(%(ids)s::text[], %(scores)s::double precision[], %(fraud_predicted)s::boolean[],
        %(decisions)s::text[], %(latencies)s::real[], %(traceparents)s::text[])
        AS rows (id, score, predicted, decision, latency, traceparent)
    ON CONFLICT (transaction_id, model_version) DO NOTHING
"""
