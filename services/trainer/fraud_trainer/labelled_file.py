"""Reads labelled transactions of the contract from a CSV or Parquet file, as examples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.postgres import examples
from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.moments import parse_moment

MAX_FILE_BYTES: Final = 1024**3
SOURCE: Final = "file"
_TRUTH: Final = {"true": 1.0, "false": 0.0}


class BadFile(LastingFailure):
    """The file cannot be used; one sentence naming the file, the column and the first bad row."""


def read_labelled_file(path: Path, contract: Contract) -> pa.Table:
    """The file's transactions as `postgres.examples.read_examples` gives them, ordered by event time.

    Columns are matched whatever their case; `event_time` and the label must be there, `transaction_id` may
    be. Numbers are quantised to the contract's scales.

    Raises:
        BadFile: it cannot be read, lacks a column, or a value breaks the contract; the first row is 1.
    """
    raw = _Columns(path, _read(path, contract))
    columns: dict[str, Any] = {
        examples.ID: raw.identifiers(),
        examples.TIME: _times(raw),
        examples.LABEL: _labels(raw, contract),
        examples.SOURCE: pa.array([SOURCE] * raw.rows),
        examples.LABEL_SOURCE: pa.array([SOURCE] * raw.rows),
        **_numbers(raw, contract),
        **{field.name: raw.each(field.name, _text(field)) for field in contract.inputs if not field.numeric},
    }
    table = pa.table(columns)
    return table.take(pc.sort_indices(table, [(examples.TIME, "ascending")]))


def _read(path: Path, contract: Contract) -> pa.Table:
    if path.suffix.lower() not in {".csv", ".parquet"}:
        raise BadFile(f"{path}: a file of transactions ends in .csv or .parquet.")
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise BadFile(f"{path}: has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
        if path.suffix.lower() == ".parquet":
            return parquet.read_table(path)
        layout = csv.ParseOptions(newlines_in_values=True)
        with csv.open_csv(path, parse_options=layout) as file:
            names = file.schema.names
        texts = {examples.ID, examples.TIME, *(field.name for field in contract.inputs if not field.numeric)}
        options = csv.ConvertOptions(
            strings_can_be_null=True,
            null_values=[""],
            column_types={name: pa.string() for name in names if name.strip().lower() in texts},
        )
        return csv.read_csv(path, parse_options=layout, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".")
        raise BadFile(f"{path}: cannot be read: {reason}.") from None


class _Columns:
    """The columns of a file by their names in lower case."""

    def __init__(self, path: Path, table: pa.Table) -> None:
        self.path = path
        self.rows = table.num_rows
        self._table = table
        self._names: dict[str, str] = {}
        for name in table.column_names:
            if (known := name.strip().lower()) in self._names:
                raise BadFile(f"{path.name}: the columns {self._names[known]} and {name} have the same name.")
            self._names[known] = name
        if not self.rows:
            raise BadFile(f"{path.name}: has no rows.")

    def column(self, name: str) -> pa.ChunkedArray | None:
        return self._table.column(self._names[name]) if name in self._names else None

    def required(self, name: str) -> pa.ChunkedArray:
        if (column := self.column(name)) is None:
            raise BadFile(f"{self.path.name}: there is no column {name}.")
        return column

    def identifiers(self) -> list[str]:
        """Those of the file; a row without one is named after the file's content and its number."""
        column = self.column(examples.ID)
        values = [None] * self.rows if column is None else column.to_pylist()
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        return [f"file-{digest}-{row}" if value is None else str(value) for row, value in enumerate(values)]

    def each(self, name: str, parse: Callable[[Any], Any]) -> list[Any]:
        """Every value of a column, parsed; a missing column is missing in every row."""
        column = self.column(name)
        values = [None] * self.rows if column is None else column.to_pylist()
        parsed = []
        for row, value in enumerate(values):
            try:
                parsed.append(parse(value))
            except ValueError as error:
                self.refuse(row, f"{name} {error}")
        return parsed

    def refuse(self, row: int, reason: str) -> NoReturn:
        raise BadFile(f"{self.path.name}: row {row + 1}: {reason}.")


def _labels(raw: _Columns, contract: Contract) -> pa.Array:
    if contract.label_field is None:
        raise BadFile(f"{raw.path.name}: contract {contract.schema_id} has no label to read.")
    raw.required(contract.label_field.name)
    return pa.array(raw.each(contract.label_field.name, _label), pa.int8())


def _label(value: Any) -> int:
    if value in {0, 1, "0", "1"}:
        return int(value)
    raise ValueError("must be 0 or 1")


def _times(raw: _Columns) -> pa.Array | pa.ChunkedArray:
    column = raw.required(examples.TIME)
    if not pa.types.is_timestamp(column.type):
        return pa.array(raw.each(examples.TIME, parse_moment), examples.MOMENT)
    if column.type.tz is None or column.null_count:
        raise BadFile(f"{raw.path.name}: {examples.TIME} must have a zone and a value in every row.")
    return column.cast(examples.MOMENT, safe=False)


def _numbers(raw: _Columns, contract: Contract) -> dict[str, NDArray[np.float64]]:
    bounds = contract.input_bounds
    matrix = np.full((raw.rows, len(bounds.fields)), np.nan)
    for position, field in enumerate(bounds.fields):
        column = raw.required(field.name) if field.required else raw.column(field.name)
        if column is not None:
            matrix[:, position] = _as_numbers(raw, field, column)
    values, outside = bounds.quantised(matrix)
    if outside.any():
        row, position = (int(index[0]) for index in np.nonzero(outside))
        raw.refuse(row, f"{bounds.fields[position].name} is missing, not finite or out of range")
    return {field.name: values[:, position] for position, field in enumerate(bounds.fields)}


def _as_numbers(raw: _Columns, field: ContractField, column: pa.ChunkedArray) -> NDArray[np.float64]:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        try:
            numbers = column.cast(pa.float64(), safe=False)
        except pa.ArrowException:
            raise BadFile(f"{raw.path.name}: {field.name} holds {column.type}, not numbers.") from None
        return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.array(raw.each(field.name, _number), dtype=np.float64)


def _number(value: Any) -> float:
    text = "" if value is None else str(value).strip()
    if not text:
        return np.nan
    try:
        return _TRUTH[text.lower()] if text.lower() in _TRUTH else float(text)
    except ValueError:
        raise ValueError("is not a number") from None


def _text(field: ContractField) -> Callable[[Any], str | None]:
    def parse(value: Any) -> str | None:
        if value is None:
            if field.required:
                raise ValueError("is missing")
            return None
        text = str(value)
        if field.type == "category" and text not in field.values:
            raise ValueError("is not one of the contract's values")
        if field.type != "category" and not 0 < len(text) <= field.max_length:
            raise ValueError(f"must have 1 to {field.max_length} characters")
        return text

    return parse
