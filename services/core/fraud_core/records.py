"""Records as JSON to a batch; what cannot be one is rejected with a reason.

A Pydantic model made from the contract is the authority. Nearly all records are plain, so a parser by
columns takes those it can prove equal to what the model would say, and leaves every other to the model.
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
class Rejected:
    """A record that is no transaction of the contract.

    Attributes:
        index: its place among the payloads given.
        reason: a code, one of `Reason`.
        detail: one sentence naming the field.
    """

    index: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What became of a sequence of payloads; `kept[i]` is the index of the payload that is row i."""

    batch: Batch
    kept: list[int]
    rejected: list[Rejected]


class RecordParser:
    """Parses records of one contract; build it once.

    Args:
        contract: what a record holds.
        max_bytes: larger payloads are rejected unread.
        make_id: makes the id of a record without one; without it such a record is rejected.
    """

    def __init__(
        self, contract: Contract, *, max_bytes: int = 65_536, make_id: Callable[[], str] | None = None
    ) -> None:
        self.contract = contract
        self.model = record_model(contract)
        self._max_bytes = max_bytes
        self._make_id = make_id
        self._fast = _FastPath(contract)

    def parse(self, payloads: Sequence[bytes | None], arrival: Sequence[datetime]) -> Parsed:
        """Parse payloads; `arrival[i]` is the event time of a record that names none."""
        rows: list[dict[str, Any]] = []
        kept: list[int] = []
        rejected: list[Rejected] = []
        for index, payload in enumerate(payloads):
            row = self._fast.row(payload) if payload and len(payload) <= self._max_bytes else None
            if row is None:
                outcome = self._strict_row(index, payload)
                if isinstance(outcome, Rejected):
                    rejected.append(outcome)
                    continue
                row = outcome
            rows.append(row)
            kept.append(index)
        batch, bad = self._fast.batch(rows, [arrival[index] for index in kept])
        if bad:
            return self._settle(payloads, arrival, bad, kept, rejected)
        return Parsed(batch, kept, rejected)

    def _settle(
        self,
        payloads: Sequence[bytes | None],
        arrival: Sequence[datetime],
        bad: Iterable[int],
        kept: list[int],
        rejected: list[Rejected],
    ) -> Parsed:
        """Some rows are out of range: the model says why, the others are kept."""
        doubtful = {kept[row] for row in bad}
        for index in sorted(doubtful):
            outcome = self._strict_row(index, payloads[index])
            if not isinstance(outcome, Rejected):
                raise AssertionError("the fast path refused a record that the model takes")
            rejected.append(outcome)
        good = [index for index in kept if index not in doubtful]
        again = self.parse([payloads[index] for index in good], [arrival[index] for index in good])
        return Parsed(again.batch, good, sorted(rejected, key=lambda one: one.index))

    def _strict_row(self, index: int, payload: bytes | None) -> dict[str, Any] | Rejected:
        if not payload:
            return Rejected(index, Reason.EMPTY, "The record is empty.")
        if len(payload) > self._max_bytes:
            return Rejected(
                index,
                Reason.TOO_LARGE,
                f"The record has {len(payload)} bytes; at most {self._max_bytes} are read.",
            )
        try:
            content = strict_json.loads(payload)
        except strict_json.RepeatedName:
            return Rejected(index, Reason.DUPLICATE_KEY, "A name is given twice in the record.")
        except (ValueError, RecursionError):
            return Rejected(index, Reason.NOT_JSON, "The record is not JSON in UTF-8.")
        if not isinstance(content, dict):
            return Rejected(index, Reason.NOT_OBJECT, "The record is no JSON object.")
        if self._make_id is not None and content.get("transaction_id") is None:
            content["transaction_id"] = self._make_id()
        try:
            record = self.model.model_validate(content)
        except ValidationError as error:
            reason, detail = reason_of(error)
            return Rejected(index, reason, detail[:MAX_DETAIL])
        if record.__dict__["transaction_id"] is None:
            return Rejected(index, Reason.MISSING_FIELD, "transaction_id is missing.")
        return dict(record.__dict__)


class _FastPath:
    """Plain records by columns: flat, exactly the expected keys, numbers as numbers, one value a key."""

    def __init__(self, contract: Contract) -> None:
        self._required = {field.name for field in contract.fields if field.required}
        self._known = {field.name for field in contract.fields} | {"transaction_id", "event_time"}
        self._numeric = [field for field in contract.fields if field.numeric]
        self._texts = [field for field in contract.fields if not field.numeric]
        self._label = contract.label_field
        self._input_bounds = contract.input_bounds
        self._all_bounds = NumericBounds(self._numeric)
        # What every record must have, by kind; a single name would make itemgetter return a bare value.
        floats = [field.name for field in self._numeric if field.type == "decimal" and field.required]
        self._floats = itemgetter(*floats) if len(floats) > 1 else None

    def row(self, payload: bytes) -> dict[str, Any] | None:
        """The record as a mapping, or None where only the model can tell."""
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
        # A key given twice, or an escaped quote, shows as more quotes than keys and texts account for.
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
        """The rows as a batch, and the places of those whose numbers are out of range."""
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
    """The rows' numbers, shape [n, k], and the places of rows with one out of range."""
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
        arrival: n aware times, used where a record names no event time.
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
