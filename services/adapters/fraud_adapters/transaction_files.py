"""Reads transactions from a CSV or Parquet file, in pieces, checked by the contract's own model."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet
from pydantic import ValidationError

from fraud_adapters.job.failures import LastingFailure
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.identifiers import transaction_id
from fraud_core.plain_numbers import parse_number
from fraud_core.record_model import reason_of, record_model
from fraud_core.records import batch_from_records

CHUNK_ROWS: Final = 1_000
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_OTHER_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}
_LONGEST_HEADER: Final = 1_000_000
_ANY_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
UNREADABLE: Final = (OSError, pa.ArrowException, csv.Error, UnicodeDecodeError)


class BadFile(LastingFailure):
    """The file cannot be read; one sentence naming the file, the column and the row."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The column of each field in a file, and the columns that are ignored."""

    columns: dict[str, str]  # field name → column name
    ignored: list[str]
    event_time: str | None = None  # the column of the event times

    @property
    def names(self) -> list[str]:
        moments = [] if self.event_time is None else [self.event_time]
        return [*self.columns.values(), *moments]


def layout(contract: Contract, columns: Sequence[str], name: str, *, event_time: str | None = None) -> Layout:
    """Match columns with fields, whatever their case (`Time`, `V1`, `Amount`, `Class`).

    Args:
        event_time: the name of the column with event times; None ignores such a column.

    Raises:
        BadFile: a required field has no column, or two.
    """
    fields = {field.name for field in contract.fields}
    matched: dict[str, str] = {}
    ignored = []
    moments = None
    for column in columns:
        field = column.strip().lower()
        if field == event_time and field not in fields:
            moments = column
        elif field not in fields:
            ignored.append(column)
        elif field in matched:
            raise BadFile(f"{name}: the columns {matched[field]} and {column} both hold {field}.")
        else:
            matched[field] = column
    if missing := [field.name for field in contract.inputs if field.required and field.name not in matched]:
        raise BadFile(
            f"{name}: there is no column {', '.join(missing)}, which contract {contract.schema_id} needs."
        )
    return Layout(matched, ignored, moments)


@dataclass(frozen=True, slots=True)
class TransactionFile:
    """A file of transactions: `batches` reads it once, from the beginning."""

    path: Path
    contract: Contract
    layout: Layout
    digest: str

    @classmethod
    def open(cls, path: Path, contract: Contract, *, event_time: str | None = None) -> TransactionFile:
        """Read the column names and compute the digest; see `layout` for the event times.

        Raises:
            BadFile: it is missing, neither CSV nor Parquet, or lacks a column.
        """
        if path.suffix.lower() not in {".csv", ".parquet"}:
            raise BadFile(f"{path}: a file of transactions ends in .csv or .parquet.")
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            columns = column_names(path, contract)
        except UNREADABLE as error:
            raise unreadable(path, error) from None
        return cls(path, contract, layout(contract, columns, path.name, event_time=event_time), digest)

    def batches(self, rows: int = CHUNK_ROWS) -> Iterator[Batch]:
        """Batches of at most `rows` transactions; without their column the caller sets the event times.

        Ids are derived from the file's digest and the row. The batch has the label's column if the file has
        it.

        Raises:
            BadFile: a value cannot be read or breaks the contract; the row (the first is 1) is named.
        """
        model = record_model(self.contract)
        start = 0
        for records in self._records(rows):
            validated = []
            for offset, record in enumerate(records):
                record["transaction_id"] = transaction_id(0, f"file/{self.digest}", start + offset)
                try:
                    validated.append(model.model_validate(record))
                except ValidationError as error:
                    raise self._bad_row(start + offset, reason_of(error)[1]) from None
            start += len(validated)
            yield batch_from_records(self.contract, validated, [_ANY_TIME] * len(validated))

    def _records(self, rows: int) -> Iterator[list[dict[str, Any]]]:
        start = 0
        fields = [field for field in self.contract.fields if field.name in self.layout.columns]
        for table in self._tables(rows):
            columns = [table[self.layout.columns[field.name]] for field in fields]
            moments = table[self.layout.event_time] if self.layout.event_time is not None else ()
            records: list[dict[str, Any]] = []
            for offset, values in enumerate(zip(*columns, strict=True)):
                try:
                    pairs = [(f.name, cell_value(f, raw)) for f, raw in zip(fields, values, strict=True)]
                except ValueError as error:
                    raise self._bad_row(start + offset, str(error)) from None
                records.append({name: value for name, value in pairs if value is not None})
            for offset, moment in enumerate(moments):
                if moment is None or moment == "":
                    raise self._bad_row(start + offset, "event_time: is missing.")
                records[offset]["event_time"] = moment_text(moment)
            start += len(records)
            yield records

    def _tables(self, rows: int) -> Iterator[Mapping[str, Sequence[Any]]]:
        try:
            if self.path.suffix.lower() == ".parquet":
                with parquet.ParquetFile(self.path) as file:
                    for batch in file.iter_batches(rows, columns=self.layout.names):
                        yield batch.to_pydict()
            else:
                yield from self._csv_tables(rows)
        except UNREADABLE as error:
            raise unreadable(self.path, error) from None

    def _csv_tables(self, rows: int) -> Iterator[Mapping[str, Sequence[Any]]]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader)
            positions = {name: header.index(name) for name in self.layout.names}
            buffered: list[list[str]] = []
            for number, row in enumerate(filter(None, _lines(reader))):
                if len(row) != len(header):
                    raise self._bad_row(number, f"has {len(row)} values, the header has {len(header)}.")
                buffered.append(row)
                if len(buffered) == rows:
                    yield {
                        name: [cells[position] for cells in buffered] for name, position in positions.items()
                    }
                    buffered = []
            if buffered:
                yield {name: [cells[position] for cells in buffered] for name, position in positions.items()}

    def _bad_row(self, index: int, detail: str) -> BadFile:
        return BadFile(f"{self.path.name}: row {index + 1}: {detail}")


def _lines(reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: {error}") from None


def column_names(path: Path, contract: Contract) -> list[str]:
    if path.suffix.lower() == ".parquet":
        return list(parquet.read_schema(path).names)
    with path.open(encoding="utf-8-sig", newline="") as file:
        _refuse_other_separator(path, file.readline(_LONGEST_HEADER), contract)
        file.seek(0)
        header = next(csv.reader(file, strict=True), [])
    if len(set(header)) != len(header):
        raise csv.Error("two columns have the same name")
    return header


def _refuse_other_separator(path: Path, header: str, contract: Contract) -> None:
    fields = {field.name for field in contract.fields}

    def matching_fields(separator: str) -> int:
        return len(fields & {name.strip(' "\r\n').lower() for name in header.split(separator)})

    separator = max(_OTHER_SEPARATORS, key=matching_fields)
    if matching_fields(separator) > matching_fields(","):
        raise BadFile(
            f"{path.name}: the columns are separated by {_OTHER_SEPARATORS[separator]}: "
            "separate them by commas, and write the decimal point as a point."
        )


def cell_value(field: ContractField, raw: Any) -> Any:
    """A cell as the contract's model takes it; None where it is empty.

    Raises:
        ValueError: it is neither what the field holds nor text that names it; one sentence.
    """
    text = _text(field, raw).strip() if isinstance(raw, str | bytes) else raw
    if text is None or text == "":
        return None
    if not field.numeric:
        return text if isinstance(text, str) else str(text)
    if field.type == "boolean":
        # A column of Parquet may hold 0 and 1 as numbers of any kind.
        truth = _BOOLEANS.get(str(text).lower(), bool(text) if text in {0, 1} else None)
        if truth is None:
            raise ValueError(f"{field.name}: is neither true nor false.")
        return truth
    number = _number(field, text)
    if math.isnan(number) and not field.required:
        return None
    return int(number) if field.type == "integer" and number.is_integer() else number


def moment_text(raw: Any) -> Any:
    """An event time as the contract's model takes it: text with a zone. Parquet holds datetimes too."""
    return raw.isoformat() if isinstance(raw, datetime) else raw.strip() if isinstance(raw, str) else raw


def _text(field: ContractField, raw: str | bytes) -> str:
    # Parquet returns text without a declared encoding as bytes.
    try:
        return raw if isinstance(raw, str) else raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{field.name}: is not text.") from None


def _number(field: ContractField, value: Any) -> float:
    try:
        if isinstance(value, str):
            return float(value) if _NOT_FINITE.fullmatch(value) else parse_number(value)
        if not isinstance(value, bool) or field.type != "decimal":
            return float(value)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{field.name}: is not a number: write it as 1234.5, without separators in between.")


def unreadable(path: Path, error: Exception) -> BadFile:
    if isinstance(error, UnicodeDecodeError):
        return BadFile(f"{path}: is not UTF-8: save it as UTF-8.")
    reason = getattr(error, "strerror", None) or _one_line(error)
    return BadFile(f"{path}: cannot be read: {reason}.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
