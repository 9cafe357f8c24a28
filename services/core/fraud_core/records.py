"""Parses JSON records to a batch; invalid ones are rejected with a reason.

The Pydantic model of the contract is the authority. Nearly all records are plain, so a columnar parser
handles those for which it provably gives the same result as the model, and leaves all others to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from fraud_core import strict_json
from fraud_core.batch import Batch, Column
from fraud_core.bounds import NumericBounds
from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.moments import parse_moment
from fraud_core.record_model import ID_PATTERN, Reason, reason_of, record_model

# A reason is shown to people: it names the field, never the value, which may be card data.
MAX_DETAIL: Final = 300


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that is not a valid transaction of the contract.

    Attributes:
        index: its position in the payloads.
        reason: a code, one of `Reason`.
        detail: one sentence naming the field.
    """

    index: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ParsedRecords:
    """The result of parsing a sequence of payloads; `kept[i]` is the index of the payload of row i."""

    batch: Batch
    kept: list[int]
    rejected: list[RejectedRecord]


class RecordParser:
    """Parses records of one contract; build it once.

    Args:
        contract: defines the fields of a record.
        max_bytes: larger payloads are rejected without parsing.
        make_id: generates the id of a record without one; if None, such a record is rejected.
    """

    def __init__(
        self, contract: Contract, *, max_bytes: int = 65_536, make_id: Callable[[], str] | None = None
    ) -> None:
        self.contract = contract
        self.model = record_model(contract)
        self._max_bytes = max_bytes
        self._make_id = make_id
        self._fast = _FastPath(contract)

    def parse(self, payloads: Sequence[bytes | None], arrival: Sequence[datetime]) -> ParsedRecords:
        """Parse payloads; `arrival[i]` is the event time of a record without one."""
        rows: list[dict[str, Any]] = []
        kept: list[int] = []
        rejected: list[RejectedRecord] = []
        for index, payload in enumerate(payloads):
            row = self._fast.row(payload) if payload and len(payload) <= self._max_bytes else None
            if row is None:
                outcome = self._validated_row(index, payload)
                if isinstance(outcome, RejectedRecord):
                    rejected.append(outcome)
                    continue
                row = outcome
            rows.append(row)
            kept.append(index)
        batch, bad = self._fast.batch(rows, [arrival[index] for index in kept])
        if bad:
            return self._reject_out_of_range(payloads, arrival, bad, kept, rejected)
        return ParsedRecords(batch, kept, rejected)

    def _reject_out_of_range(
        self,
        payloads: Sequence[bytes | None],
        arrival: Sequence[datetime],
        bad: Iterable[int],
        kept: list[int],
        rejected: list[RejectedRecord],
    ) -> ParsedRecords:
        """Reject the rows that are out of range, with the model's reason, and parse the others."""
        out_of_range = {kept[row] for row in bad}
        for index in sorted(out_of_range):
            outcome = self._validated_row(index, payloads[index])
            if not isinstance(outcome, RejectedRecord):
                raise AssertionError("the fast path rejected a record that the model accepts")
            rejected.append(outcome)
        good = [index for index in kept if index not in out_of_range]
        again = self.parse([payloads[index] for index in good], [arrival[index] for index in good])
        return ParsedRecords(again.batch, good, sorted(rejected, key=lambda rejection: rejection.index))

    def _validated_row(self, index: int, payload: bytes | None) -> dict[str, Any] | RejectedRecord:
        if not payload:
            return RejectedRecord(index, Reason.EMPTY, "The record is empty.")
        if len(payload) > self._max_bytes:
            return RejectedRecord(
                index,
                Reason.TOO_LARGE,
                f"The record has {len(payload)} bytes; at most {self._max_bytes} are read.",
            )
        try:
            content = strict_json.loads(payload)
        except strict_json.RepeatedName:
            return RejectedRecord(index, Reason.DUPLICATE_KEY, "A name occurs twice in the record.")
        except (ValueError, RecursionError):
            return RejectedRecord(index, Reason.NOT_JSON, "The record is not JSON in UTF-8.")
        if not isinstance(content, dict):
            return RejectedRecord(index, Reason.NOT_OBJECT, "The record is not a JSON object.")
        if self._make_id is not None and content.get("transaction_id") is None:
            content["transaction_id"] = self._make_id()
        try:
            record = self.model.model_validate(content)
        except ValidationError as error:
            reason, detail = reason_of(error)
            return RejectedRecord(index, reason, detail[:MAX_DETAIL])
        if record.__dict__["transaction_id"] is None:
            return RejectedRecord(index, Reason.MISSING_FIELD, "transaction_id is missing.")
        return dict(record.__dict__)


class _FastPath:
    """Parses plain records by columns: flat objects with the expected keys, each once, and typed values."""

    def __init__(self, contract: Contract) -> None:
        self._required = {field.name for field in contract.fields if field.required}
        self._known = {field.name for field in contract.fields} | {"transaction_id", "event_time"}
        self._numeric = [field for field in contract.fields if field.numeric]
        self._texts = [field for field in contract.fields if not field.numeric]
        self._label = contract.label_field
        self._input_bounds = contract.input_bounds
        self._all_bounds = NumericBounds(self._numeric)
        # The decimals that every record must have; with a single name itemgetter would return a bare value.
        floats = [field.name for field in self._numeric if field.type == "decimal" and field.required]
        self._floats = itemgetter(*floats) if len(floats) > 1 else None

    def row(self, payload: bytes) -> dict[str, Any] | None:
        """The record as a mapping, or None if only the model can decide."""
        try:
            record = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return None
        if type(record) is not dict or self._floats is None:
            return None
        names = record.keys()
        if not (names <= self._known and names >= self._required and "transaction_id" in record):
            return None
        try:
            kinds = set(map(type, self._floats(record)))
        except KeyError:
            return None
        texts = sum(type(value) is str for value in record.values())
        # A repeated key or an escaped quote results in more quotes than keys and texts need.
        if kinds - {float, int} or payload.count(b'"') != 2 * (len(record) + texts):
            return None
        identifier, moment = record["transaction_id"], record.get("event_time")
        if type(identifier) is not str or ID_PATTERN.fullmatch(identifier) is None:
            return None
        if moment is not None:
            try:
                record["event_time"] = parse_moment(moment)
            except ValueError:
                return None
        return record if self._others_plain(record) else None

    def _others_plain(self, record: Mapping[str, Any]) -> bool:
        for field in self._numeric:
            if field.type == "decimal" and field.required:
                continue
            value = record.get(field.name)
            if value is None and field.required:
                return False
            allowed = {"decimal": (float, int), "integer": (int,), "boolean": (bool,)}[field.type]
            if value is not None and type(value) not in allowed:
                return False
        return all(_plain_text(field, record.get(field.name)) for field in self._texts)

    def batch(
        self, rows: Sequence[Mapping[str, Any]], arrival: Sequence[datetime]
    ) -> tuple[Batch, list[int]]:
        """The rows as a batch, and the positions of rows with a number out of range."""
        label = self._label
        labelled = label is not None and any(row.get(label.name) is not None for row in rows)
        bounds = self._all_bounds if labelled else self._input_bounds
        matrix, bad = _numbers(bounds, rows)
        columns: dict[str, Column] = {field.name: matrix[:, i] for i, field in enumerate(bounds.fields)}
        for field in self._texts:
            columns[field.name] = np.array([row.get(field.name) for row in rows], dtype=object)
        moments = [row.get("event_time") or at for row, at in zip(rows, arrival, strict=True)]
        return Batch([row["transaction_id"] for row in rows], moments, columns), bad


def _numbers(
    bounds: NumericBounds, rows: Sequence[Mapping[str, Any]]
) -> tuple[NDArray[np.float64], list[int]]:
    """The rows' numbers, shape [n, k], and the positions of rows with a number out of range."""
    names = [field.name for field in bounds.fields]
    pick = itemgetter(*names) if len(names) > 1 else None
    try:
        values = [pick(row) for row in rows] if pick else [[row.get(name) for name in names] for row in rows]
    except KeyError:
        values = [[row.get(name) for name in names] for row in rows]
    raw = np.array(values, dtype=np.float64, order="F").reshape(len(rows), len(names))
    quantised, outside = bounds.quantised(raw)
    return quantised, np.nonzero(outside.any(axis=1))[0].tolist()


def batch_from_records(
    contract: Contract, records: Sequence[BaseModel], arrival: Sequence[datetime]
) -> Batch:
    """Validated records (instances of `record_model`) as a batch; ids must be set.

    Args:
        records: n records, quantised by their model.
        arrival: n aware times, used for records without an event time.
    """
    batch, bad = _FastPath(contract).batch([record.__dict__ for record in records], arrival)
    if bad:
        raise ValueError("a record was not validated by the contract's model")
    return batch


def _plain_text(field: ContractField, value: Any) -> bool:
    if value is None:
        return not field.required
    if type(value) is not str:
        return False
    if field.type == "category":
        return value in field.values
    return 0 < len(value) <= field.max_length and value.isprintable()
