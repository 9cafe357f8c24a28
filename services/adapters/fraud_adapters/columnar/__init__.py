"""Batches and their scores as Arrow IPC streams: the columnar body of `POST /predict/batch`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_adapters.columnar.answers import AnswerPart, ColumnarAnswer, answer_from_ipc, answer_to_ipc
from fraud_adapters.columnar.arrays import EPOCH, MICROSECOND, MOMENT, doubles, moments, strings
from fraud_adapters.columnar.stream import (
    ColumnarError,
    numpy,
    read_stream,
    refuse_nulls,
    refuse_where,
    write_stream,
)
from fraud_core.batch import Batch
from fraud_core.bounds import NumericBounds
from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.record_model import Reason

__all__ = [
    "MEDIA_TYPE",
    "AnswerPart",
    "ColumnarAnswer",
    "ColumnarError",
    "answer_from_ipc",
    "answer_to_ipc",
    "batch_from_ipc",
    "batch_to_ipc",
]

MAX_ID_LENGTH = 50
MEDIA_TYPE = "application/vnd.apache.arrow.stream"

# What a datetime can hold: the years 1 to 9999.
_EARLIEST_US = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
_LATEST_US = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
_ID = "transaction_id"
_TIME = "event_time"


def batch_to_ipc(contract: Contract, batch: Batch) -> bytes:
    """A stream of one record batch; missing optional values are null, and an all-null column is left out."""
    arrays = [strings(batch.ids), moments(batch.event_times)]
    names = [_ID, _TIME]
    for field in contract.fields:
        if field.name not in batch.columns:
            continue
        array = _to_arrow(field, batch.columns[field.name])
        if field.required or array.null_count < len(array):
            arrays.append(array)
            names.append(field.name)
    return write_stream(pa.RecordBatch.from_arrays(arrays, names=names))


def batch_from_ipc(contract: Contract, body: bytes, max_rows: int) -> Batch:
    """Read, validate and quantise a batch of at most `max_rows` transactions.

    Raises:
        ColumnarError: the body is truncated, has missing, unknown or wrongly typed columns, too many
            rows, or a value that violates the contract; the message names the first invalid row.
    """
    table = read_stream(body, max_rows, _request_types(contract), _required_columns(contract))
    present = set(table.schema.names)
    columns = _number_columns(_bounds(contract, present), table)
    for field in contract.fields:
        if field.name not in present and field.role != "label":
            columns[field.name] = _absent(field, table.num_rows)
        elif not field.numeric:
            columns[field.name] = _texts(field, table.column(field.name))
    return Batch(ids=_ids(table.column(_ID)), event_times=_times(table.column(_TIME)), columns=columns)


def _request_types(contract: Contract) -> dict[str, Any]:
    fields = {field.name: pa.float64() if field.numeric else pa.string() for field in contract.fields}
    return {_ID: pa.string(), _TIME: MOMENT, **fields}


def _required_columns(contract: Contract) -> set[str]:
    return {_ID, _TIME, *(field.name for field in contract.fields if field.required)}


def _to_arrow(field: ContractField, values: NDArray[Any]) -> Any:
    return doubles(values, nullable=not field.required) if field.numeric else strings(values)


def _absent(field: ContractField, rows: int) -> NDArray[Any]:
    return np.full(rows, np.nan) if field.numeric else np.full(rows, None, dtype=object)


def _ids(column: Any) -> list[str]:
    refuse_nulls(_ID, column)
    lengths = numpy(pc.binary_length(column))
    # The core's pattern for an id, in two parts: compiling the whole pattern costs more than a batch.
    wrong = (lengths < 1) | (lengths > MAX_ID_LENGTH) | _flags(pc.match_substring_regex(column, "[^!-~]"))
    refuse_where(wrong, _ID, Reason.BAD_ID, "is not 1 to 50 printable ASCII characters")
    ids: list[str] = column.to_pylist()
    return ids


def _times(column: Any) -> list[datetime]:
    refuse_nulls(_TIME, column)
    micros = numpy(column.cast(pa.int64()))
    refuse_where(
        (micros < _EARLIEST_US) | (micros > _LATEST_US), _TIME, Reason.BAD_TIME, "is not a valid time"
    )
    return [EPOCH + timedelta(microseconds=value) for value in micros.tolist()]


def _bounds(contract: Contract, present: set[str]) -> NumericBounds:
    bounds = contract.input_bounds
    if present.issuperset(field.name for field in bounds.fields) and (
        contract.label_field is None or contract.label_field.name not in present
    ):
        return bounds
    return NumericBounds([field for field in contract.fields if field.numeric and field.name in present])


def _number_columns(bounds: NumericBounds, table: Any) -> dict[str, NDArray[Any]]:
    """All numeric columns by name, quantised together as one matrix [rows, fields]."""
    matrix = np.empty((len(bounds.fields), table.num_rows)).T  # a column of it is contiguous
    for values, field in zip(matrix.T, bounds.fields, strict=True):
        values[:] = _numbers(field, table.column(field.name))
    quantised, outside = bounds.quantised(matrix)
    bad = outside.any(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        names = ", ".join(bounds.fields[position].name for position in np.nonzero(outside[row])[0])
        raise ColumnarError(Reason.OUT_OF_RANGE, f"{names} is out of range in row {row}.")
    return {field.name: values for field, values in zip(bounds.fields, quantised.T, strict=True)}


def _numbers(field: ContractField, column: Any) -> NDArray[np.float64]:
    if field.required:
        refuse_nulls(field.name, column)
    values: NDArray[np.float64] = numpy(column)
    wrong = ~np.isfinite(values)
    if column.null_count:
        wrong &= _flags(column.is_valid())
    refuse_where(wrong, field.name, Reason.NOT_FINITE, "is NaN or infinite")
    if field.type == "integer":
        fraction = (values != np.trunc(values)) & ~np.isnan(values)
        refuse_where(fraction, field.name, Reason.WRONG_TYPE, "is not a whole number")
    if field.type == "boolean":
        other = ~(np.isin(values, (0.0, 1.0)) | np.isnan(values))
        refuse_where(other, field.name, Reason.WRONG_TYPE, "is neither 0 nor 1")
    return values


def _texts(field: ContractField, column: Any) -> NDArray[np.object_]:
    if field.required:
        refuse_nulls(field.name, column)
    texts = np.empty(len(column), dtype=object)
    texts[:] = column.to_pylist()
    present = [text for text in texts if text is not None]
    if field.type == "category" and not set(present) <= set(field.values):
        raise ColumnarError(Reason.OUT_OF_RANGE, f"{field.name} is none of the contract's values.")
    if not all(0 < len(text) <= field.max_length and text.isprintable() for text in present):
        raise ColumnarError(
            Reason.BAD_TEXT, f"{field.name} is not 1 to {field.max_length} printable characters."
        )
    return texts


def _flags(column: Any) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = numpy(column.cast(pa.int8())).astype(np.bool_)
    return flags
