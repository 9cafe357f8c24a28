"""Transactions and labels as messages. The same input gives the same bytes, so retries are idempotent."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from config.constants import HEADER_SCHEMA, HEADER_TRACEPARENT
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.identifiers import label_id
from fraud_core.labels import LabelEvent

SOURCE: Final = "simulator"


@dataclass(frozen=True, slots=True)
class Message:
    """One record to publish."""

    key: bytes
    value: bytes
    headers: dict[str, bytes]


def transaction_messages(contract: Contract, batch: Batch, *, with_class: bool = False) -> Iterator[Message]:
    """One message a transaction, keyed by its card where the contract has one, else by its id.

    Args:
        with_class: include the label in the record; the batch must hold it.
    """
    fields = contract.fields if with_class else contract.inputs
    present = [field for field in fields if field.name in batch.columns]
    columns = [[_json(field)(value) for value in batch.columns[field.name].tolist()] for field in present]
    names = [field.name for field in present]
    card = contract.with_role("card")
    keys = batch.columns[card.name].tolist() if card is not None else batch.ids
    schema = contract.schema_id.encode()
    for identifier, moment, key, *values in zip(batch.ids, batch.event_times, keys, *columns, strict=True):
        record = {"transaction_id": identifier, "event_time": rfc3339(moment)}
        record |= {name: value for name, value in zip(names, values, strict=True) if value is not None}
        headers = {HEADER_SCHEMA: schema, HEADER_TRACEPARENT: traceparent(identifier)}
        yield Message((key or identifier).encode(), orjson.dumps(record), headers)


def label_event(transaction_id: str, label: int, reported_at: datetime) -> LabelEvent:
    """The simulator's label; its report time is the due time, so that a repetition is identical."""
    identifier = label_id(transaction_id, label, SOURCE, reported_at.astimezone(UTC).isoformat())
    return LabelEvent(identifier, transaction_id, label, SOURCE, reported_at)


def label_message(event: LabelEvent) -> Message:
    record = {
        "label_id": event.label_id,
        "transaction_id": event.transaction_id,
        "label": event.label,
        "source": event.source,
        "reported_at": rfc3339(event.reported_at),
    }
    return Message(event.transaction_id.encode(), orjson.dumps(record), {})


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def traceparent(identifier: str) -> bytes:
    """A W3C trace context derived from the transaction's id."""
    digest = hashlib.sha256(identifier.encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01".encode()


def _json(field: ContractField) -> Callable[[Any], Any]:
    if field.type == "decimal":
        return lambda value: None if math.isnan(value) else value
    if field.type in {"integer", "boolean"}:
        kind: type = int if field.type == "integer" else bool
        return lambda value: None if math.isnan(value) else kind(value)
    return lambda value: value
