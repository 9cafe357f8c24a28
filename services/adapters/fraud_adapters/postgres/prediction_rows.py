"""Predictions as rows of COPY's binary format, which the server reads without parsing numbers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core.predictions import Predictions

COLUMNS: Final = (
    *("transaction_id", "decision", "traceparent"),
    *("score", "fraud_score", "is_fraud_predicted", "latency_ms", "feature_vector"),
    *("prediction_time", "model_version", "role", "run_id", "deciding", "engine", "policy_version"),
)
"""Of the table `predictions`, in the order of the fields of a row."""

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_NULL: Final = struct.pack(">i", -1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_REAL: Final = 700  # the type's object id, the same in every database
_TIE: Final = 1e-6


def prediction_rows(ids: Sequence[str], predictions: Predictions, moment: datetime) -> bytes:
    """What COPY reads of n predictions.

    Args:
        ids: of their transactions.
        moment: when they were made, unless the predictions say it themselves.

    Raises:
        ValueError: the columns differ in length.
    """
    shared = _shared(predictions, predictions.prediction_time or moment)
    numbers = _numbers(predictions)
    content, size = numbers.tobytes(), numbers.dtype.itemsize
    begin = struct.pack(">h", len(COLUMNS))
    rows = [_HEADER]
    texts = zip(ids, predictions.decisions, predictions.traceparents, strict=True)
    for row, (identifier, decision, traceparent) in enumerate(texts):
        rows += (begin, _text(identifier), _text(decision), _text(traceparent))
        rows += (content[row * size : (row + 1) * size], shared)
    rows.append(_TRAILER)
    return b"".join(rows)


def rounded_scores(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Scores in ten-thousandths, as the server rounds them: of 15 digits, halves away from zero."""
    scaled = np.nan_to_num(scores).clip(0, 1) * 10_000
    rounded = np.floor(scaled + 0.5).astype(np.int64)
    for row in np.flatnonzero(np.abs(scaled - np.floor(scaled) - 0.5) < _TIE):
        exact = Decimal(f"{scores[row]:.15g}").scaleb(4)
        rounded[row] = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
    return rounded


def _numbers(predictions: Predictions) -> NDArray[np.void]:
    """The fields that are as long in every row, each after its length in bytes."""
    width = predictions.feature_vectors.shape[1]
    element = np.dtype([("bytes", ">i4"), ("value", ">f4")])
    layout = np.dtype(
        [
            *[("score_bytes", ">i4"), ("score", ">f8")],
            # Digits to the base of 10,000: before the point and after it.
            *[("fraud_score_bytes", ">i4"), ("fraud_score_head", ">i2", 4), ("fraud_score", ">i2", 2)],
            *[("predicted_bytes", ">i4"), ("predicted", "u1")],
            *[("latency_bytes", ">i4"), ("latency", ">f4")],
            *[("vector_bytes", ">i4"), ("vector_head", ">i4", 5), ("vector", element, width)],
        ]
    )
    rows = np.zeros(len(predictions), dtype=layout)
    rows["score_bytes"], rows["score"] = 8, predictions.scores
    rows["fraud_score_bytes"], rows["fraud_score_head"] = 12, (2, 0, 0, 4)  # digits, weight, sign, scale
    rows["fraud_score"] = np.column_stack(np.divmod(rounded_scores(predictions.scores), 10_000))
    rows["predicted_bytes"], rows["predicted"] = 1, predictions.predicted
    rows["latency_bytes"], rows["latency"] = 4, predictions.latency_ms
    # Dimensions, whether there are nulls, type, length, lower bound.
    rows["vector_bytes"], rows["vector_head"] = 20 + element.itemsize * width, (1, 0, _REAL, width, 1)
    rows["vector"]["bytes"], rows["vector"]["value"] = 4, predictions.feature_vectors
    return rows


def _shared(predictions: Predictions, moment: datetime) -> bytes:
    return b"".join(
        (
            struct.pack(">iq", 8, (moment - _EPOCH) // _MICROSECOND),
            *map(_text, (predictions.model_version, predictions.role, predictions.run_id)),
            struct.pack(">i?", 1, predictions.deciding),
            *map(_text, (predictions.engine, predictions.policy_version)),
        )
    )


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    content = text.encode()
    return struct.pack(">i", len(content)) + content
