"""Batches and predictions as Arrow columns whose CSV text Postgres reads back to the same values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_adapters.columnar.arrays import doubles, flags, moments, numbers, strings
from fraud_adapters.postgres.placement import placement
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.predictions import Predictions


def transaction_arrays(
    contract: Contract, batch: Batch, classes: NDArray[np.int64] | Sequence[int | None] | None = None
) -> dict[str, pa.Array]:
    """Columns of `transactions` by name, n values each, and each row's position.

    A number's text is the shortest that names the double, which is the quantised decimal itself.
    """
    arrays: dict[str, pa.Array] = {
        "position": numbers(pa.int32(), np.arange(len(batch), dtype=np.int32)),
        "transaction_id": strings(batch.ids),
        "event_time": moments(batch.event_times),
    }
    where = placement(contract)
    fields = {field.name: field for field in contract.inputs}
    for name, column in where.columns.items():
        if name in batch.columns:
            arrays[column] = _array(fields[name], batch.columns[name])
    if where.attributes:
        arrays["attributes"] = _attributes(where.attributes, batch)
    label = contract.label_field
    if classes is not None:
        arrays["class"] = pa.array(classes, pa.int8())
    elif label is not None and label.name in batch.columns:
        arrays["class"] = pc.cast(doubles(batch.columns[label.name], nullable=True), pa.int8())
    return arrays


def prediction_arrays(predictions: Predictions) -> dict[str, pa.Array]:
    """Columns of `predictions` that differ from row to row, by name, n values each."""
    return {
        "score": doubles(predictions.scores, nullable=False),
        "is_fraud_predicted": flags(predictions.predicted),
        "decision": strings([str(decision) for decision in predictions.decisions]),
        "feature_vector": vector_text(predictions.feature_vectors),
        "latency_ms": numbers(pa.float32(), predictions.latency_ms.astype(np.float32, copy=False)),
        "traceparent": strings(predictions.traceparents),
    }


def vector_text(vectors: NDArray[np.float32]) -> pa.Array:
    """`real[]` literals of vectors [n, k], each number as the shortest text that names the float32."""
    rows, width = vectors.shape
    flat = np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1)
    texts = pc.cast(numbers(pa.float32(), flat), pa.string())
    starts = numbers(pa.int32(), np.arange(rows + 1, dtype=np.int32) * np.int32(width))
    lists = pa.ListArray.from_arrays(starts, texts)
    # Scalars taken from an array: pa.scalar, as pa.array, would import pandas.
    opening, comma, closing, nothing = strings(["{", ",", "}", ""])
    return pc.binary_join_element_wise(opening, pc.binary_join(lists, comma), closing, nothing)


def _array(field: ContractField, values: NDArray[Any]) -> pa.Array:
    if not field.numeric:
        return strings(values)
    # A required number that is missing stays NaN, for the database to refuse.
    return doubles(values, nullable=not field.required)


def _attributes(fields: Sequence[ContractField], batch: Batch) -> pa.Array:
    present = [field for field in fields if field.name in batch.columns]
    columns = [_json_values(field, batch.columns[field.name]) for field in present]
    names = [field.name for field in present]
    documents = (
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in (zip(*columns, strict=True) if columns else [()] * len(batch))
    )
    # None rather than {}: what was stored before the contract had its first such field is still the same.
    return strings([orjson.dumps(document).decode() if document else None for document in documents])


def _json_values(field: ContractField, values: NDArray[Any]) -> list[Any]:
    listed: list[Any] = values.tolist()
    if not field.numeric:
        return listed
    kinds = {"boolean": bool, "integer": int, "decimal": float}
    kind = kinds[field.type]
    return [None if math.isnan(value) else kind(value) for value in listed]
