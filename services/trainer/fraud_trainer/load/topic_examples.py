"""Transactions from the topic, by offset or by time; their labels come from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.constants import HEADER_SCHEMA
from config.settings import KafkaSettings
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.kafka import BrokerUnavailable, PartitionReader, Record
from fraud_adapters.kafka.arrival import arrival
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.record_model import Reason
from fraud_core.records import RecordParser, RejectedRecord

_CLIENT: Final = "fraud-trainer"
_PAGE: Final = 5000
_POLL_SECONDS: Final = 2.0
_SILENT_POLLS: Final = 10  # empty polls in a row after which the broker counts as unresponsive
_NAMED: Final = 10  # refused records that the log names

Bound = int | datetime | None  # an offset of each partition, or a record's timestamp; None is unbounded


@dataclass(frozen=True, slots=True)
class TopicSpan:
    """Records from `start` on and before `end`."""

    start: Bound = None
    end: Bound = None

    def holds(self, record: Record) -> bool:
        return _reached(record, self.start, default=True) and not _reached(record, self.end, default=False)


@dataclass(frozen=True, slots=True)
class TopicRows:
    """The transactions of a span, each id once, and how many records were refused."""

    batch: Batch
    refused: int


def read_topic(kafka: KafkaSettings, contract: Contract, span: TopicSpan, now: datetime) -> TopicRows:
    """The span's transactions of the contract, in the order of the topic's partitions.

    A span of times is read from the earliest offset and filtered by the records' timestamps: not every broker
    looks offsets up by time. A record that is not a transaction of the contract is left out, as a dead letter
    would be; the log names the first ones.

    Raises:
        LastingFailure: no record of the span is in the log.
        KafkaFailure: the topic cannot be read.
    """
    with PartitionReader(kafka.bootstrap_servers, kafka.topic, _CLIENT) as reader:
        records = [record for record in _records(reader, span) if span.holds(record)]
    if not records:
        raise LastingFailure(
            f"The topic {kafka.topic} holds no record from --kafka-from on, before --kafka-to."
        )
    schema = contract.schema_id.encode()
    ours = [record for record in records if (record.headers.get(HEADER_SCHEMA) or schema) == schema]
    parsed = RecordParser(contract).parse(
        [None if record.damage else record.value for record in ours],
        [arrival(record, now) for record in ours],
    )
    _name_refused(ours, parsed.rejected)
    others = len(records) - len(ours)
    if others:
        get_logger(__name__).warning("records_left_out", records=others, reason=Reason.SCHEMA_MISMATCH)
    first = {identifier: row for row, identifier in reversed(list(enumerate(parsed.batch.ids)))}
    return TopicRows(parsed.batch.take(sorted(first.values())), len(parsed.rejected) + others)


def _records(reader: PartitionReader, span: TopicSpan) -> list[Record]:
    starts = reader.earliest_offsets()
    ends = _ends(reader, starts)
    if isinstance(span.start, int):
        starts = {partition: max(offset, span.start) for partition, offset in starts.items()}
    if isinstance(span.end, int):
        ends = {partition: min(offset, span.end) for partition, offset in ends.items()}
    # A position past the end of the log is an error to the reader.
    starts = {partition: offset for partition, offset in starts.items() if offset < ends[partition]}
    if not starts:
        return []
    reader.assign(starts)
    records: list[Record] = []
    silent = 0
    while any(offset < ends[partition] for partition, offset in reader.positions().items()):
        polled = reader.poll(_PAGE, _POLL_SECONDS)
        if not polled and reader.drained():
            break  # the remaining records belong to a transaction that is still open
        silent = 0 if polled else silent + 1
        if silent >= _SILENT_POLLS:
            raise BrokerUnavailable("Kafka does not answer a fetch.")
        records += [record for record in polled if record.offset < ends[record.partition]]
    return records


def _ends(reader: PartitionReader, starts: dict[int, int]) -> dict[int, int]:
    ends = reader.ends(starts, _SILENT_POLLS * _POLL_SECONDS)
    if ends.keys() != starts.keys():
        raise BrokerUnavailable("Kafka does not answer a fetch.")
    return ends


def _reached(record: Record, bound: Bound, *, default: bool) -> bool:
    if bound is None:
        return default
    if isinstance(bound, int):
        return record.offset >= bound
    return record.timestamp_ms >= bound.timestamp() * 1000


def _name_refused(records: Sequence[Record], rejected: Sequence[RejectedRecord]) -> None:
    log = get_logger(__name__)
    for bad in rejected[:_NAMED]:
        record = records[bad.index]
        origin = f"{record.topic}/{record.partition}/{record.offset}"
        log.warning("record_refused", origin=origin, reason=bad.reason, detail=bad.detail)
    if len(rejected) > _NAMED:
        log.warning("records_refused", records=len(rejected))
