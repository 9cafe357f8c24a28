"""Transactions to try a replica with; they are of the contract and of nobody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.records import RecordParser

_STEPS: Final = 16  # values of a numeric field before they repeat
_WIDTH: Final = 100.0  # of the values of a numeric field without bounds


def sample_records(contract: Contract, rows: int, prefix: str) -> list[dict[str, Any]]:
    """Records as clients send them, all alike but for their values; ids begin with the prefix."""
    return [
        {
            "transaction_id": f"{prefix}-{row}",
            **{one.name: _value(one, row + position) for position, one in enumerate(contract.inputs)},
        }
        for row in range(rows)
    ]


def as_batch(contract: Contract, records: list[Mapping[str, Any]] | list[dict[str, Any]]) -> Batch:
    """The records as the API reads them."""
    now = datetime.now(UTC)
    payloads = [orjson.dumps(record) for record in records]
    return RecordParser(contract).parse(payloads, [now] * len(records)).batch


def _value(field: ContractField, row: int) -> Any:
    if field.type == "category":
        return field.values[row % len(field.values)]
    if field.type == "text":
        return f"sample-{row % _STEPS}"[: field.max_length]
    if field.type == "boolean":
        return bool(row % 2)
    low = max(0.0 if field.min is None else field.min, -field.limit / 2)
    high = min(field.top if field.max is None else field.max, low + _WIDTH)
    value = low + (high - low) * (row % _STEPS) / (_STEPS + 1)
    return int(value) if field.type == "integer" else round(value, field.scale)
