"""When a record was sent, for records that do not say when their event happened."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from config.constants import HEADER_ORIGIN_TIMESTAMP, HEADER_REDRIVEN
from fraud_adapters.kafka.record import Record
from fraud_core.moments import moment_of_milliseconds
from fraud_core.plain_numbers import parse_whole_number

_LATEST_MS: Final = 10**18


def arrival(record: Record, now: datetime) -> datetime:
    """The record's timestamp, or `now` if it has none or one outside the range of a datetime.

    The sender may set any 64-bit number; raising an error here would block the partition for good.
    """
    sent = sent_at_ms(record)
    return now if sent < 0 else moment_of_milliseconds(sent) or now


def sent_at_ms(record: Record) -> int:
    """The record's timestamp in milliseconds since 1970; of a redriven record, that of the original one."""
    first = record.headers.get(HEADER_ORIGIN_TIMESTAMP)
    if first is None or not record.headers.get(HEADER_REDRIVEN):
        return record.timestamp_ms
    try:
        return parse_whole_number(first.decode("ascii", "replace"), 0, _LATEST_MS)
    except ValueError:
        return record.timestamp_ms
