"""Batches and predictions as Arrow columns whose CSV text Postgres reads back to the same values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_adapters.placement import placement
from fraud_core.batch import Batch
from fraud_core.contract import Contract, ContractField

if TYPE_CHECKING:
    from fraud_adapters.scored import Predictions

_MOMENT = pa.timestamp("us", tz="UTC")


def transaction_arrays(
    contract: Contract, batch: Batch, classes: NDArray[np.int64] | Sequence[int | None] | None = None
) -> dict[str, pa.Array]:
    """Columns of `transactions` by name, n values each, and each row's position.

    A number's text is the shortest that names the double, which is the quantised decimal itself.
    """
    arrays: dict[str, pa.Array] = {
        "position": pa.array(np.arange(len(batch), dtype=np.int32)),
        "transaction_id": pa.array(batch.ids, pa.string()),
        "event_time": pa.array(batch.event_times, _MOMENT),
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
        arrays["class"] = pc.cast(pa.array(batch.columns[label.name], from_pandas=True), pa.int8())
    return arrays


def prediction_arrays(predictions: Predictions) -> dict[str, pa.Array]:
    """Columns of `predictions` that differ from row to row, by name, n values each."""
    return {
        "score": pa.array(predictions.scores),
        "is_fraud_predicted": pa.array(predictions.predicted),
        "decision": pa.array([str(decision) for decision in predictions.decisions], pa.string()),
        "feature_vector": vector_text(predictions.feature_vectors),
        "latency_ms": pa.array(predictions.latency_ms, pa.float32()),
        "traceparent": pa.array(predictions.traceparents, pa.string()),
    }


def vector_text(vectors: NDArray[np.float32]) -> pa.Array:
    """`real[]` literals of vectors [n, k], each number as the shortest text that names the float32."""
    rows, width = vectors.shape
    numbers = pc.cast(pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1)), pa.string())
    lists = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * width, numbers)
    return pc.binary_join_element_wise("{", pc.binary_join(lists, ","), "}", "")


def _array(field: ContractField, values: NDArray[Any]) -> pa.Array:
    if not field.numeric:
        return pa.array(values, pa.string())
    # A required number that is missing stays NaN, for the database to refuse.
    return pa.array(values, pa.float64(), from_pandas=not field.required)


def _attributes(fields: Sequence[ContractField], batch: Batch) -> pa.Array:
    present = [field for field in fields if field.name in batch.columns]
    columns = [_json_values(field, batch.columns[field.name]) for field in present]
    names = [field.name for field in present]
    documents = (
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in (zip(*columns, strict=True) if columns else [()] * len(batch))
    )
    return pa.array([orjson.dumps(document).decode() for document in documents], pa.string())


def _json_values(field: ContractField, values: NDArray[Any]) -> list[Any]:
    listed: list[Any] = values.tolist()
    if not field.numeric:
        return listed
    kinds = {"boolean": bool, "integer": int, "decimal": float}
    kind = kinds[field.type]
    return [None if math.isnan(value) else kind(value) for value in listed]
