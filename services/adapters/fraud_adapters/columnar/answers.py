"""The API's response to a columnar request, as an Arrow IPC stream."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
_PART = "part"
_PARTS = "parts"
_OF_PREDICTIONS = ("model_version", "engine", "policy_version", "role")
_THRESHOLDS = ("threshold", "block_threshold")
_ROLES = ("champion", "canary", "shadow")


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """The rows that one model has scored, its predictions of them, and its thresholds."""

    rows: Sequence[int]
    predictions: Predictions
    threshold: float
    block_threshold: float


@dataclass(frozen=True, slots=True)
class ColumnarAnswer:
    """The API's predictions for n transactions: one part, or those of champion and canary."""

    ids: list[str]  # n, in the order of the request
    parts: Sequence[AnswerPart]

    @classmethod
    def of_one(
        cls, ids: list[str], predictions: Predictions, threshold: float, block_threshold: float
    ) -> Self:
        """The answer in which one model has scored all rows."""
        return cls(ids, [AnswerPart(range(len(ids)), predictions, threshold, block_threshold)])


def answer_to_ipc(answer: ColumnarAnswer) -> bytes:
    """A stream of one record batch; values that all rows of a part share are schema metadata.

    An answer of several parts has a further column, the part of each row, and metadata of each part; the
    other metadata are those of the first. Latency and traces are not included: the client measures the
    latency and knows the traces.
    """
    several = len(answer.parts) > 1
    order = _order(answer)
    columns = [part.predictions for part in answer.parts]
    vectors = np.concatenate([one.feature_vectors for one in columns], dtype=np.float32)[order]
    decisions = np.array([decision for one in columns for decision in one.decisions], dtype=object)
    arrays = [
        strings(answer.ids),
        doubles(np.concatenate([one.scores for one in columns])[order], nullable=False),
        flags(np.concatenate([one.predicted for one in columns])[order]),
        strings(decisions[order].tolist()),
        pa.FixedSizeListArray.from_arrays(numbers(pa.float32(), vectors.reshape(-1)), vectors.shape[1]),
    ]
    names = [_ID, "score", "prediction", "decision", "feature_vector"]
    metadata = _metadata(answer.parts[0])
    if several:
        sizes = [len(part.rows) for part in answer.parts]
        arrays.append(pa.array(np.repeat(np.arange(len(sizes), dtype=np.int8), sizes)[order]))
        names.append(_PART)
        metadata[_PARTS] = json.dumps([_metadata(part) for part in answer.parts])
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
        _PART: pa.int8(),
    }
    table = read_stream(body, max_rows, types, set(types) - {_PART})
    for name in table.schema.names:
        refuse_nulls(name, table.column(name))
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    scores = numpy(table.column("score"))
    refuse_where(~((scores >= 0) & (scores <= 1)), "score", "out_of_range", "is not a probability")
    described, rows = _described_parts(table, metadata)
    every = Predictions(
        scores=scores,
        predicted=numpy(table.column("prediction").cast(pa.int8())).astype(np.bool_),
        decisions=table.column("decision").to_pylist(),
        model_version="",
        engine="",
        feature_vectors=numpy(table.column("feature_vector").flatten()).reshape(-1, width),
        policy_version="",
        latency_ms=np.zeros(len(scores), dtype=np.float32),
        traceparents=[None] * len(scores),
    )
    parts = [
        _part(every if len(described) == 1 else every.take(mine), mine, values)
        for mine, values in zip(rows, described, strict=True)
    ]
    return ColumnarAnswer(table.column(_ID).to_pylist(), parts)


def _order(answer: ColumnarAnswer) -> NDArray[np.intp] | slice:
    """From the parts one after the other to the rows of the request."""
    if len(answer.parts) == 1:
        return slice(None)
    return np.argsort(np.concatenate([np.asarray(part.rows, dtype=np.intp) for part in answer.parts]))


def _metadata(part: AnswerPart) -> dict[str, str]:
    shared = {name: str(getattr(part.predictions, name)) for name in _OF_PREDICTIONS}
    return shared | {name: str(getattr(part, name)) for name in _THRESHOLDS}


def _described_parts(
    table: Any, metadata: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[Sequence[int]]]:
    """What the parts share, and the rows of each."""
    if _PART not in table.schema.names:
        return [_described(metadata)], [range(table.num_rows)]
    try:
        described = [_described(part) for part in json.loads(metadata[_PARTS])]
    except (KeyError, TypeError, ValueError):
        raise ColumnarError("missing_field", f"The answer's metadata lacks readable {_PARTS}.") from None
    of_row = numpy(table.column(_PART))
    refuse_where((of_row < 0) | (of_row >= len(described)), _PART, "out_of_range", "is not a part")
    return described, [np.flatnonzero(of_row == part).tolist() for part in range(len(described))]


def _described(values: Mapping[str, str]) -> dict[str, Any]:
    """The shared values of a part; an API of an earlier release does not name the role."""
    found = {"role": "champion", **values}
    if missing := [name for name in (*_OF_PREDICTIONS, *_THRESHOLDS) if name not in found]:
        raise ColumnarError("missing_field", f"The answer's metadata lacks {', '.join(missing)}.")
    if found["role"] not in _ROLES:
        raise ColumnarError("out_of_range", f"The answer's metadata name the role {found['role'][:20]!r}.")
    return {name: found[name] for name in _OF_PREDICTIONS} | {
        name: float(found[name]) for name in _THRESHOLDS
    }


def _part(predictions: Predictions, rows: Sequence[int], values: Mapping[str, Any]) -> AnswerPart:
    shared = {name: values[name] for name in _OF_PREDICTIONS}
    return AnswerPart(rows, predictions.described(**shared), values["threshold"], values["block_threshold"])
