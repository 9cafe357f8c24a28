"""The API's response to a columnar request, as an Arrow IPC stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fraud_adapters.columnar.arrays import doubles, flags, numbers, strings
from fraud_adapters.columnar.stream import (
    ColumnarError,
    numpy,
    read_stream,
    refuse_nulls,
    refuse_where,
    write_stream,
)
from fraud_core.predictions import Predictions

_ID = "transaction_id"
_OF_PREDICTIONS = ("model_version", "engine", "policy_version")
_THRESHOLDS = ("threshold", "block_threshold")


@dataclass(frozen=True, slots=True)
class ColumnarAnswer:
    """The API's predictions for n transactions, in the order of the request, and the model's thresholds."""

    ids: list[str]  # n
    predictions: Predictions
    threshold: float
    block_threshold: float


def answer_to_ipc(answer: ColumnarAnswer) -> bytes:
    """A stream of one record batch; values that all rows share are schema metadata.

    Latency and traces are not included: the client measures the latency and knows the traces.
    """
    predictions = answer.predictions
    vectors = np.ascontiguousarray(predictions.feature_vectors, dtype=np.float32)
    arrays = [
        strings(answer.ids),
        doubles(predictions.scores, nullable=False),
        flags(predictions.predicted),
        strings(predictions.decisions),
        pa.FixedSizeListArray.from_arrays(numbers(pa.float32(), vectors.reshape(-1)), vectors.shape[1]),
    ]
    names = [_ID, "score", "prediction", "decision", "feature_vector"]
    metadata = {name: str(getattr(predictions, name)) for name in _OF_PREDICTIONS}
    metadata |= {name: str(getattr(answer, name)) for name in _THRESHOLDS}
    batch = pa.RecordBatch.from_arrays(arrays, names=names).replace_schema_metadata(metadata)
    return write_stream(batch)


def answer_from_ipc(body: bytes, width: int, max_rows: int) -> ColumnarAnswer:
    """Read a response whose feature vectors have `width` values.

    Raises:
        ColumnarError: the body is not a response of that shape.
    """
    types = {
        _ID: pa.string(),
        "score": pa.float64(),
        "prediction": pa.bool_(),
        "decision": pa.string(),
        "feature_vector": pa.list_(pa.float32(), width),
    }
    table = read_stream(body, max_rows, types, set(types))
    for name in types:
        refuse_nulls(name, table.column(name))
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if missing := [name for name in (*_OF_PREDICTIONS, *_THRESHOLDS) if name not in metadata]:
        raise ColumnarError("missing_field", f"The answer's metadata lacks {', '.join(missing)}.")
    scores = numpy(table.column("score"))
    refuse_where(~((scores >= 0) & (scores <= 1)), "score", "out_of_range", "is not a probability")
    predictions = Predictions(
        scores=scores,
        predicted=numpy(table.column("prediction").cast(pa.int8())).astype(np.bool_),
        decisions=table.column("decision").to_pylist(),
        model_version=metadata["model_version"],
        engine=metadata["engine"],
        feature_vectors=numpy(table.column("feature_vector").flatten()).reshape(-1, width),
        policy_version=metadata["policy_version"],
        latency_ms=np.zeros(len(scores), dtype=np.float32),
        traceparents=[None] * len(scores),
    )
    return ColumnarAnswer(
        table.column(_ID).to_pylist(),
        predictions,
        threshold=float(metadata["threshold"]),
        block_threshold=float(metadata["block_threshold"]),
    )
