"""Batches and predictions as the text of Postgres arrays, which it reads back to the same values.

A number's text is the shortest that names the double, which is the quantised decimal itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Sized
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud_adapters.postgres.placement import NUMERIC_COLUMNS, placement
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.predictions import Predictions

Arguments = dict[str, Any]
"""Of a function of the database: values by the parameter's name."""

_NULL: Final = "null"
_BRACES: Final = bytes.maketrans(b"[]", b"{}")


def transaction_arguments(
    contract: Contract, batch: Batch, classes: NDArray[np.int64] | Sequence[int | None] | None = None
) -> Arguments:
    """What `merge_transactions` takes of a batch; None for what no transaction of the contract has.

    Args:
        classes: n labels instead of the batch's own label column.

    Raises:
        ValueError: the columns differ in length.
    """
    where = placement(contract)
    given = [] if classes is None else [classes]
    _require_length(len(batch), batch.event_times, *batch.columns.values(), *given)
    return {
        "ids": text_array(batch.ids),
        "event_times": _joined(moment.isoformat() for moment in batch.event_times),
        "numbers": _numbers(contract, where.columns, batch),
        "card_ids": _texts(where.columns, "card_id", batch),
        "merchant_ids": _texts(where.columns, "merchant_id", batch),
        "attributes": _attributes(where.attributes, batch) if where.attributes else None,
        "classes": _classes(contract, batch, classes),
    }


def prediction_arguments(predictions: Predictions) -> Arguments:
    """What `store_scored` takes besides.

    Raises:
        ValueError: the columns differ in length.
    """
    _require_length(
        len(predictions),
        *(predictions.predicted, predictions.decisions, predictions.feature_vectors),
        *(predictions.latency_ms, predictions.traceparents),
    )
    return {
        "scores": number_array(predictions.scores),
        "fraud_predicted": number_array(predictions.predicted),
        "decisions": text_array([str(decision) for decision in predictions.decisions]),
        "vectors": number_array(predictions.feature_vectors.reshape(-1)),
        "width": predictions.feature_vectors.shape[1],
        "latencies": number_array(predictions.latency_ms.astype(np.float32, copy=False)),
        "traceparents": text_array(predictions.traceparents),
        "prediction_time": predictions.prediction_time,
        "model_version": predictions.model_version,
        "role": predictions.role,
        "run_id": predictions.run_id,
        "deciding": predictions.deciding,
        "engine": predictions.engine,
        "policy_version": predictions.policy_version,
    }


def number_array(values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> str:
    """An array of one or two dimensions; null where `missing`. NaN and infinities elsewhere are kept."""
    finite = np.isfinite(values)
    if finite.all() if missing is None else (finite | missing).all():
        # NaN is written as null.
        exact = np.ascontiguousarray(values)
        return orjson.dumps(exact, option=orjson.OPT_SERIALIZE_NUMPY).translate(_BRACES).decode()
    gone = np.zeros(values.shape, dtype=np.bool_) if missing is None else missing
    if values.ndim > 1:
        return _joined(number_array(*row) for row in zip(values, gone, strict=True))
    pairs = zip(values.tolist(), gone.tolist(), strict=True)
    return _joined(_NULL if absent else repr(value) for value, absent in pairs)


def text_array(texts: Iterable[str | None]) -> str:
    """An array of texts; null where None."""
    return _joined(_NULL if text is None else _quoted(text) for text in texts)


def _require_length(rows: int, *columns: Sized) -> None:
    # A missing element would be read as null, and one too many not at all.
    if any(len(column) != rows for column in columns):
        raise ValueError(f"the columns of a batch of {rows} rows differ in length")


def _joined(elements: Iterable[str]) -> str:
    return "{" + ",".join(elements) + "}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _numbers(contract: Contract, columns: dict[str, str], batch: Batch) -> str:
    """[n, 30] in the order of the table's numeric columns.

    Of a field that may be missing NaN becomes null. Of a required one it stays, for the database to refuse.
    """
    fields = {columns[field.name]: field for field in contract.inputs if field.name in columns}
    values = np.full((len(batch), len(NUMERIC_COLUMNS)), np.nan)
    nullable = np.ones(len(NUMERIC_COLUMNS), dtype=np.bool_)
    for position, column in enumerate(NUMERIC_COLUMNS):
        field = fields.get(column)
        if field is not None and field.name in batch.columns:
            values[:, position] = batch.columns[field.name]
            nullable[position] = not field.required
    return number_array(values, np.isnan(values) & nullable)


def _texts(columns: dict[str, str], column: str, batch: Batch) -> str | None:
    for name, kept_in in columns.items():
        if kept_in == column and name in batch.columns:
            return text_array(batch.columns[name])
    return None


def _classes(
    contract: Contract, batch: Batch, classes: NDArray[np.int64] | Sequence[int | None] | None
) -> str | None:
    label = contract.label_field
    if classes is None and label is not None:
        classes = batch.columns.get(label.name)
    if classes is None:
        return None
    return _joined(_NULL if one is None or math.isnan(one) else str(int(one)) for one in classes)


def _attributes(fields: Sequence[ContractField], batch: Batch) -> str:
    present = [field for field in fields if field.name in batch.columns]
    columns = [_json_values(field, batch.columns[field.name]) for field in present]
    names = [field.name for field in present]
    documents = (
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in (zip(*columns, strict=True) if columns else [()] * len(batch))
    )
    # None rather than {}: what was stored before the contract had its first such field is still the same.
    return text_array([orjson.dumps(document).decode() if document else None for document in documents])


def _json_values(field: ContractField, values: NDArray[Any]) -> list[Any]:
    listed: list[Any] = values.tolist()
    if not field.numeric:
        return listed
    kinds = {"boolean": bool, "integer": int, "decimal": float}
    kind = kinds[field.type]
    return [None if math.isnan(value) else kind(value) for value in listed]
