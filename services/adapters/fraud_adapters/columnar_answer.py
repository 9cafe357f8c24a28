"""What the API answers to a columnar request, as an Arrow IPC stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraud_adapters.arrow_arrays import doubles, flags, numbers, strings
from fraud_adapters.arrow_stream import (
    ColumnarError,
    numpy,
    read_stream,
    refuse_nulls,
    refuse_where,
    write_stream,
)

_ID = "transaction_id"
_METADATA = ("model_version", "engine", "threshold", "block_threshold", "policy_version")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API says about n transactions with k features, in the order of the request."""

    ids: list[str]
    scores: NDArray[np.float64]  # [n]
    predicted: NDArray[np.bool_]  # [n]
    decisions: list[str]  # n of approve, review, block
    feature_vectors: NDArray[np.float32]  # [n, k], C-contiguous
    model_version: str
    engine: str
    threshold: float
    block_threshold: float
    policy_version: str


def answer_to_ipc(answer: Answer) -> bytes:
    """One stream of one record batch; what is the same for all rows is schema metadata."""
    vectors = np.ascontiguousarray(answer.feature_vectors, dtype=np.float32)
    arrays = [
        strings(answer.ids),
        doubles(answer.scores, nullable=False),
        flags(answer.predicted),
        strings(answer.decisions),
        pa.FixedSizeListArray.from_arrays(numbers(pa.float32(), vectors.reshape(-1)), vectors.shape[1]),
    ]
    names = [_ID, "score", "prediction", "decision", "feature_vector"]
    metadata = {name: str(getattr(answer, name)) for name in _METADATA}
    batch = pa.RecordBatch.from_arrays(arrays, names=names).replace_schema_metadata(metadata)
    return write_stream(batch)


def answer_from_ipc(body: bytes, width: int, max_rows: int) -> Answer:
    """Read an answer whose feature vectors have `width` values.

    Raises:
        ColumnarError: the body is no answer of that shape.
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
    if missing := [name for name in _METADATA if name not in metadata]:
        raise ColumnarError("missing_field", f"The answer's metadata lacks {', '.join(missing)}.")
    scores = numpy(table.column("score"))
    refuse_where(~((scores >= 0) & (scores <= 1)), "score", "out_of_range", "is no probability")
    return Answer(
        ids=table.column(_ID).to_pylist(),
        scores=scores,
        predicted=numpy(table.column("prediction").cast(pa.int8())).astype(np.bool_),
        decisions=table.column("decision").to_pylist(),
        feature_vectors=numpy(table.column("feature_vector").flatten()).reshape(-1, width),
        model_version=metadata["model_version"],
        engine=metadata["engine"],
        threshold=float(metadata["threshold"]),
        block_threshold=float(metadata["block_threshold"]),
        policy_version=metadata["policy_version"],
    )
