"""Parses request bodies into transactions; invalid ones raise a problem."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import orjson

from fraud_adapters.columnar import ColumnarError, batch_from_ipc
from fraud_api.problems import Problem
from fraud_core import strict_json
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.record_model import Reason
from fraud_core.records import RecordParser, RejectedRecord

LIST_KEY: Final = "new_data"
BATCH_KEY: Final = "transactions"
STORE_KEY: Final = "store"
MAX_ERRORS: Final = 20  # in a response
_LARGEST_EXACT: Final = 2.0**63  # orjson reads integers beyond 64 bits as floats
# JSON allows any character of a name to be escaped.
_LIST_KEY_PATTERN: Final = re.compile(
    '"{}"'.format("".join(rf"(?:{char}|\\u(?i:{ord(char):04x}))" for char in LIST_KEY)).encode()
)

Encoder = Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class ParsedBodies:
    """Bodies of one record each: `kept[i]` is the index of the body of row i; every other has a problem."""

    batch: Batch
    kept: list[int]
    problems: list[tuple[int, Problem]]


@dataclass(frozen=True, slots=True)
class BatchRequest:
    batch: Batch
    store: bool


class RequestParser:
    """Reads the bodies of `/predict` and `/predict/batch` for one contract."""

    def __init__(self, contract: Contract, parser: RecordParser, max_rows: int) -> None:
        self._contract = contract
        self._parser = parser
        self._max_rows = max_rows
        self._record_names = frozenset(parser.model.model_fields) - {LIST_KEY}

    def parse_each(self, bodies: Sequence[bytes], arrivals: Sequence[datetime]) -> ParsedBodies:
        """Parse bodies that are one record each.

        The problem of one that is not: 400 if it is not JSON in UTF-8, 413 if it is too long, 422 if it is
        not a transaction of the contract.
        """
        parsed = self._parser.parse(bodies, arrivals)
        problems = [(rejected.index, _problem_of(rejected)) for rejected in parsed.rejected]
        return ParsedBodies(parsed.batch, parsed.kept, problems)

    def parse_list(self, body: bytes, arrival: datetime) -> Batch | None:
        """Parse a body `{"new_data": [record, …]}`; None if it is a single record that only mentions the
        name. Raises the problems of `parse_each`, and 413 for too many records."""
        document, encode = _document(body, LIST_KEY)
        if LIST_KEY not in document or not self._record_names.isdisjoint(document):
            return None
        if set(document) != {LIST_KEY}:
            raise Problem(422, f"The body must hold {LIST_KEY} alone.")
        return self._records(document, LIST_KEY, encode, arrival)

    def batch(self, body: bytes, arrival: datetime) -> BatchRequest:
        """Parse a body `{"transactions": [record, …], "store": false}`. Raises like `parse_list`."""
        document, encode = _document(body, BATCH_KEY)
        if not {BATCH_KEY} <= set(document) <= {BATCH_KEY, STORE_KEY}:
            raise Problem(422, f"The body must hold {BATCH_KEY}, and may hold {STORE_KEY}, nothing else.")
        store = document.get(STORE_KEY, False)
        if type(store) is not bool:
            raise Problem(422, f"{STORE_KEY} must be true or false.")
        return BatchRequest(self._records(document, BATCH_KEY, encode, arrival), store)

    def parse_columnar(self, body: bytes) -> Batch:
        """Parse an Arrow IPC stream. Raises Problem: 400 if it is not one, 413 or 422 for its content."""
        try:
            batch = batch_from_ipc(self._contract, body, self._max_rows)
        except ColumnarError as error:
            status = {"not_arrow": 400, "truncated": 400, "too_large": 413}.get(error.reason, 422)
            raise Problem(status, str(error), reason=error.reason) from None
        if not len(batch):
            raise Problem(422, "The batch holds no transaction.")
        return batch

    def _records(self, document: dict[str, Any], name: str, encode: Encoder, arrival: datetime) -> Batch:
        records = document[name]
        if not isinstance(records, list) or not records:
            raise Problem(422, f"{name} must be a list of at least one record.")
        if len(records) > self._max_rows:
            raise Problem(413, f"{name} holds more than {self._max_rows} records.")
        try:
            payloads = [encode(record) for record in records]
        except (TypeError, RecursionError):  # encoding allows less nesting than decoding
            raise Problem(422, "A record is nested too deeply.") from None
        parsed = self._parser.parse(payloads, [arrival] * len(records))
        if parsed.rejected:
            raise _invalid(parsed.rejected)
        return parsed.batch


def may_be_list(body: bytes) -> bool:
    """Whether `new_data` occurs in the body, as a name or within a text; `parse_list` distinguishes them."""
    return _LIST_KEY_PATTERN.search(body) is not None


def refuse_repeated_ids(ids: Sequence[str]) -> None:
    """Raises Problem 409 if an id occurs twice among the transactions to store."""
    if len(set(ids)) != len(ids):
        raise Problem(409, "A transaction_id occurs twice in the request; nothing of it is stored.")


def conflict(ids: Collection[str]) -> Problem:
    """409: transactions are known with other fields."""
    return Problem(
        409,
        "A transaction_id is known with other fields; the request's other transactions are stored.",
        conflicts=sorted(ids),
    )


def _not_json() -> Problem:
    return Problem(400, "The body is not JSON in UTF-8.")


def _problem_of(rejected: RejectedRecord) -> Problem:
    if rejected.reason in {Reason.NOT_JSON, Reason.EMPTY}:
        return _not_json()
    if rejected.reason == Reason.TOO_LARGE:
        return Problem(413, rejected.detail)
    return _invalid([replace(rejected, index=0)])


def _invalid(rejected: Sequence[RejectedRecord]) -> Problem:
    errors = [
        {"index": one.index, "reason": str(one.reason), "detail": one.detail} for one in rejected[:MAX_ERRORS]
    ]
    count = len(rejected)
    detail = rejected[0].detail if count == 1 else f"{count} records are not valid."
    return Problem(422, detail, errors=errors)


def _document(body: bytes, key: str) -> tuple[dict[str, Any], Encoder]:
    """The JSON object of the body and a function that encodes its parts again. The fast decoder is used only
    if it provably lost nothing, otherwise the strict one."""
    try:
        document = orjson.loads(body)
        if type(document) is dict and _lost_nothing(body, document, key):
            return document, orjson.dumps
    except orjson.JSONDecodeError:
        pass
    try:
        document = strict_json.loads(body)
    except strict_json.RepeatedName:
        raise Problem(422, "A name is given twice in one object.", reason=str(Reason.DUPLICATE_KEY)) from None
    except (ValueError, RecursionError):
        raise _not_json() from None
    if type(document) is not dict:
        raise Problem(422, "The body must be a JSON object.")
    # orjson would encode NaN as null, which an optional field accepts.
    return document, _encode_exactly


def _lost_nothing(body: bytes, document: dict[str, Any], key: str) -> bool:
    """Whether the fast decoder kept all of the body.

    Every quote must delimit a key or text of the document, so that no key occurred twice, and no number may
    be so large that it was an integer and became a float.
    """
    records = document.get(key)
    if type(records) is not list:
        return False
    texts = len(document)
    for record in records:
        if type(record) is not dict:
            return False
        texts += len(record)
        for value in record.values():
            kind = type(value)
            if kind is str:
                texts += 1
            elif kind is float and not -_LARGEST_EXACT < value < _LARGEST_EXACT:
                return False
    return body.count(b'"') == 2 * texts


def _encode_exactly(value: Any) -> bytes:
    return json.dumps(value).encode()
