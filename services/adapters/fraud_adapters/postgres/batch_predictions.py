"""Predictions of batch runs: they decide nothing, and each transaction has one a run (migration 0014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import interruptible
from fraud_adapters.postgres.rows import number_array, text_array

_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended('batch prediction ' || %s, 0))"
_STORE: Final = """
    SELECT store_batch_predictions(%(run)s, %(model)s, %(engine)s, %(ids)s, %(scores)s, %(predicted)s,
                                   %(decisions)s, %(vectors)s, %(width)s)
"""


def try_lock_run(connection: Connection, run: str) -> bool:
    """Whether this connection now works on the run alone; the lock ends with the connection."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_LOCK, (run,))
        row = cursor.fetchone()
    return bool(row and row[0])


def store_batch(  # noqa: PLR0917
    connection: Connection,
    run: str,
    model_version: str,
    engine: str,
    ids: Sequence[str],
    scores: NDArray[np.float64],
    predicted: NDArray[np.bool_],
    decisions: Sequence[str],
    features: NDArray[np.float32],
) -> int:
    """Store n predictions of stored transactions in one transaction; a repetition changes nothing.

    Args:
        run: identifies the run among all runs, at most 100 characters.
        features: float32 [n, k].

    Returns:
        How many were not stored before.

    Raises:
        psycopg2.errors.ForeignKeyViolation: one of the transactions is not stored.
    """
    values = {
        "run": run,
        "model": model_version,
        "engine": engine,
        "ids": text_array(ids),
        "scores": number_array(scores),
        "predicted": number_array(predicted),
        "decisions": text_array(decisions),
        "vectors": number_array(features.reshape(-1)),
        "width": features.shape[1],
    }
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(_STORE, values))
        row = cursor.fetchone()
    return int(row[0]) if row else 0
