"""Parses tables of transactions by columns, as strictly as records; invalid rows are rejected with a reason.

The contract's own model is the authority. Nearly all rows are plain, so their columns are converted at once;
every row about which there is any doubt is left to the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from fraud_adapters.columnar.arrays import strings
from fraud_adapters.columnar.stream import numpy
from fraud_adapters.transaction_files import BadFile, Layout, cell_value, layout, moment_text
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.identifiers import transaction_id
from fraud_core.moments import parse_moment
from fraud_core.record_model import Reason, reason_of, record_model
from fraud_core.records import MAX_DETAIL

ID: Final = "transaction_id"
TIME: Final = "event_time"
_MAX_ID: Final = 50
_BLOCK: Final = 1024  # rows
_ANY_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What both Arrow's conversion and `parse_number` read, to the same number.
_PLAIN_NUMBER: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is not a valid transaction: its line, its id as far as it is readable, and why."""

    line: int
    transaction_id: str
    reason: str  # a code, one of `Reason`
    detail: str  # one sentence naming the field


@dataclass(frozen=True, slots=True)
class ParsedTable:
    """The valid rows of a table with their lines [n], and the others.

    `ids` are those of the batch, as an array of text.
    """

    batch: Batch
    ids: pa.Array
    lines: NDArray[np.int64]
    rejected: list[RejectedRow]


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Where the fields of the contract and the envelope are in a table."""

    fields: Mapping[str, str]  # field name → column name
    ignored: tuple[str, ...]
    id: str | None
    event_time: str | None

    @classmethod
    def of(cls, contract: Contract, columns: list[str], name: str) -> TableColumns:
        """Match columns with fields, whatever their case. The label's column is ignored.

        Raises:
            BadFile: a required field has no column, or two.
        """
        ids = [column for column in columns if column.strip().lower() == ID]
        if len(ids) > 1:
            raise BadFile(f"{name}: the columns {ids[0]} and {ids[1]} both hold {ID}.")
        rest = [column for column in columns if column not in ids]
        found: Layout = layout(contract, rest, name, event_time=TIME)
        label = contract.label_field.name if contract.label_field is not None else None
        fields = {field: column for field, column in found.columns.items() if field != label}
        unread = [column for field, column in found.columns.items() if field == label]
        return cls(fields, tuple(found.ignored + unread), ids[0] if ids else None, found.event_time)

    @property
    def names(self) -> list[str]:
        """The columns to read."""
        envelope = [column for column in (self.id, self.event_time) if column is not None]
        return [*envelope, *self.fields.values()]


class TableParser:
    """Parses the rows of one table, in pieces; safe to use from several threads.

    Args:
        origin: what ids are derived from, with the line, where the table has none; equal tables give equal
            ids.
        first_line: the line of the first row.
    """

    def __init__(self, contract: Contract, columns: TableColumns, origin: str, first_line: int) -> None:
        self._contract = contract
        self._columns = columns
        self._origin = origin
        self._first_line = first_line
        self._model = record_model(contract)
        self._texts = [field for field in contract.inputs if not field.numeric]

    def parse(self, table: pa.Table, lines: NDArray[np.int64]) -> ParsedTable:
        """Parse rows; `lines` [n] are theirs, in ascending order."""
        doubtful = np.zeros(len(lines), dtype=np.bool_)
        matrix = self._numbers(table, doubtful)
        texts = {field.name: self._text(field, table, doubtful) for field in self._texts}
        ids = self._ids(table, lines, doubtful)
        times = self._times(table, doubtful)
        quantised = self._quantised(matrix, doubtful)
        plain = not doubtful.any()
        rejected = []
        for row in np.flatnonzero(doubtful).tolist():
            outcome = self._decided_by_model(table, row, int(lines[row]), ids[row])
            if isinstance(outcome, RejectedRow):
                rejected.append(outcome)
                continue
            doubtful[row] = False
            ids[row] = outcome[ID]
            times[row] = outcome[TIME] or _ANY_TIME
            quantised[row] = [_number_of(outcome[f.name]) for f in self._contract.input_bounds.fields]
            for field in self._texts:
                texts[field.name][row] = outcome[field.name]
        numeric = {f.name: quantised[:, i] for i, f in enumerate(self._contract.input_bounds.fields)}
        batch = Batch(ids, times, numeric | texts)
        if plain:
            return ParsedTable(batch, self._id_array(table, ids), lines, rejected)
        kept = np.flatnonzero(~doubtful)
        valid = batch.take(kept.tolist())
        return ParsedTable(valid, strings(valid.ids), lines[kept], rejected)

    def _numbers(self, table: pa.Table, doubtful: Flags) -> NDArray[np.float64]:
        """Shape [n, k], NaN where missing; what cannot be converted at once is 0 and doubtful."""
        fields = self._contract.input_bounds.fields
        matrix = np.empty((len(fields), table.num_rows)).T  # a column of it is contiguous
        for position, field in enumerate(fields):
            column = self._columns.fields.get(field.name)
            matrix[:, position] = np.nan if column is None else _floats(field, table[column], doubtful)
        return matrix

    def _quantised(self, matrix: NDArray[np.float64], doubtful: Flags) -> NDArray[np.float64]:
        """Quantised in blocks that fit into the processor's cache, which is several times as fast."""
        result = np.empty_like(matrix)
        for start in range(0, len(matrix), _BLOCK):
            block = slice(start, start + _BLOCK)
            result[block], outside = self._contract.input_bounds.quantised(matrix[block])
            doubtful[block] |= outside.any(axis=1)
        return result

    def _text(self, field: ContractField, table: pa.Table, doubtful: Flags) -> NDArray[np.object_]:
        values = np.full(table.num_rows, None, dtype=object)
        column = self._columns.fields.get(field.name)
        if column is None:
            return values
        plain = _plain_text(table[column])
        if plain is None:
            doubtful[:] = True
            return values
        values[:] = plain.to_pylist()
        doubtful |= np.array([not _valid_text(field, value) for value in values], dtype=np.bool_)
        return values

    def _ids(self, table: pa.Table, lines: NDArray[np.int64], doubtful: Flags) -> list[str]:
        if self._columns.id is None:
            rows = (lines - self._first_line).tolist()
            return [transaction_id(0, f"file/{self._origin}", row) for row in rows]
        column = _plain_text(table[self._columns.id])
        if column is None:
            return [_shown(value) for value in _mark_all(table[self._columns.id], doubtful)]
        lengths = numpy(_one_array(pc.fill_null(pc.binary_length(column), 0)))
        foreign = pc.fill_null(pc.match_substring_regex(column, "[^!-~]"), True)
        doubtful |= (lengths < 1) | (lengths > _MAX_ID) | _flags(foreign)
        ids: list[Any] = column.to_pylist()
        return ids if not column.null_count else ["" if one is None else one for one in ids]

    def _id_array(self, table: pa.Table, ids: list[str]) -> pa.Array:
        """The ids as they were read, which costs nothing, or else from the list."""
        column = None if self._columns.id is None else table[self._columns.id]
        return _one_array(column) if column is not None and column.type == pa.string() else strings(ids)

    def _times(self, table: pa.Table, doubtful: Flags) -> list[datetime]:
        times = [_ANY_TIME] * table.num_rows
        if self._columns.event_time is None:
            return times
        for row, raw in enumerate(table[self._columns.event_time].to_pylist()):
            text = moment_text(raw)
            if text is None or text == "":
                continue
            try:
                times[row] = parse_moment(text)
            except (ValueError, TypeError):
                doubtful[row] = True
        return times

    def _decided_by_model(
        self, table: pa.Table, row: int, line: int, shown_id: str
    ) -> dict[str, Any] | RejectedRow:
        """The row's values if the contract's model accepts them."""
        try:
            record = self._record(table, row, shown_id)
            values = dict(self._model.model_validate(record).__dict__)
        except ValidationError as error:
            reason, detail = reason_of(error)
        except ValueError as error:
            reason, detail = Reason.WRONG_TYPE, str(error)
        else:
            if values[ID] is not None:
                return values
            reason, detail = Reason.MISSING_FIELD, f"{ID} is missing."
        return RejectedRow(line, shown_id, reason, detail[:MAX_DETAIL])

    def _record(self, table: pa.Table, row: int, generated_id: str) -> dict[str, Any]:
        pairs = (
            (name, cell_value(self._contract.field(name), _cell(table, column, row)))
            for name, column in self._columns.fields.items()
        )
        record = {name: value for name, value in pairs if value is not None}
        record[ID] = generated_id
        if self._columns.id is not None:
            record[ID] = _id_text(_cell(table, self._columns.id, row))
        if self._columns.event_time is not None:
            record[TIME] = moment_text(_cell(table, self._columns.event_time, row)) or None
        return record


def _floats(field: ContractField, column: pa.ChunkedArray, doubtful: Flags) -> NDArray[np.float64]:
    kind = column.type
    if pa.types.is_boolean(kind) and field.type == "boolean":
        column = column.cast(pa.int8())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.string())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        text = None if pa.types.is_boolean(kind) else _plain_text(column)
        if text is None:
            doubtful[:] = True
            return np.zeros(len(column))
        column = text
    return _converted(field, column, doubtful)


def _converted(field: ContractField, column: pa.ChunkedArray, doubtful: Flags) -> NDArray[np.float64]:
    try:
        values = _as_floats(column.cast(pa.float64(), safe=False))
    except pa.ArrowInvalid:
        plain = pc.fill_null(pc.match_substring_regex(column, _PLAIN_NUMBER), False)
        doubtful |= ~_flags(plain) & _flags(column.is_valid())
        values = _as_floats(pc.if_else(plain, column, None).cast(pa.float64()))
    finite = np.isfinite(values)
    whole = bool(finite.all())
    if not whole:
        missing = np.isnan(values)
        doubtful |= ~(finite | missing)
        if field.required:
            doubtful |= missing
        elif column.type in (pa.string(), pa.large_string()):
            doubtful |= missing & _flags(column.is_valid())  # the text nan
    if field.type == "integer":
        doubtful |= finite & (values != np.trunc(values))
    elif field.type == "boolean":
        doubtful |= finite & (values != 0) & (values != 1)
    return values if whole else np.where(doubtful & ~finite, 0.0, values)


def _as_floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(numpy(_one_array(column)), dtype=np.float64)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece; it is copied only if it has several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _plain_text(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column as text with null for missing; None where only a look at each cell can tell."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain_text(column.cast(kind.value_type))
    if pa.types.is_null(kind) or pa.types.is_integer(kind):
        return column.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:  # some cell is not UTF-8
            return None
    return column if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


def _valid_text(field: ContractField, value: str | None) -> bool:
    if value is None:
        return not field.required
    if field.type == "category":
        return value in field.values
    return 0 < len(value) <= field.max_length and value.isprintable() and value == value.strip()


def _mark_all(column: pa.ChunkedArray, doubtful: Flags) -> list[Any]:
    doubtful[:] = True
    return list(column.to_pylist())


def _cell(table: pa.Table, column: str, row: int) -> Any:
    return table[column][row].as_py()


def _id_text(raw: Any) -> Any:
    text = _shown(raw) if isinstance(raw, bytes | int) and not isinstance(raw, bool) else raw
    return text or None


def _shown(raw: Any) -> str:
    if isinstance(raw, bytes):
        return raw.decode("utf-8", "backslashreplace")
    return "" if raw is None else str(raw)


def _number_of(value: Any) -> float:
    return np.nan if value is None else float(value)


def _flags(column: Any) -> Flags:
    column = _one_array(column) if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(numpy(column.cast(pa.int8())), dtype=np.int8).astype(np.bool_)
