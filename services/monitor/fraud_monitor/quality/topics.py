"""Checks of the stream: lag and position of the consumed topics, and what became of their latest records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import orjson
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.settings import KafkaSettings
from fraud_adapters.kafka import PartitionReader, Record, topic_ids
from fraud_adapters.postgres import dead_letters, offsets
from fraud_adapters.postgres.arrivals import found_of
from fraud_core.quality import stream
from fraud_core.quality.checks import Check, Status, insufficient
from fraud_core.quality.stream import TopicProgress, Trace, TracedRecord, trace_of
from fraud_monitor.guarded import guarded
from fraud_monitor.quality.tables import Counted
from fraud_monitor.run_context import RunContext

CLIENT: Final = "fraud-monitor"
END_SECONDS: Final = 5.0  # for a fetch to show the ends
TRACE_SECONDS: Final = 60.0  # for the records that are followed
POLL_SECONDS: Final = 2.0
_PAGE: Final = 2000


@dataclass(frozen=True, slots=True)
class StreamState:
    """How far each topic was read, and what became of the latest transactions; a sentence where unknown."""

    progress: tuple[TopicProgress, ...] | str
    trace: Trace | str


def read(context: RunContext, connection: Connection) -> StreamState:
    """Ask the broker and the tables."""
    kafka = context.kafka()
    found = guarded("kafka", lambda: _progress(kafka, connection))
    if isinstance(found, str):
        return StreamState(found, found)
    progress, ids = found
    transactions = progress[0]
    if transactions.recreated:
        return StreamState(progress, f"The topic {transactions.topic} was created again.")
    trace = guarded("kafka", lambda: _trace(context, kafka, connection, transactions, ids[kafka.topic]))
    return StreamState(progress, trace)


def checks(context: RunContext, state: StreamState, counted: Counted, repeated: int) -> list[Check]:
    """The checks of this module; `repeated`: rows of the window with the features of another one."""
    rules = context.parameters.quality
    trace, why = (None, state.trace) if isinstance(state.trace, str) else (state.trace, "")
    transactions = None if isinstance(state.progress, str) else state.progress[0]
    undecided, rows = counted.undecided, counted.rows
    complete = (
        insufficient("completeness", undecided)
        if isinstance(undecided, str)
        else stream.completeness(trace, undecided, rows, transactions, why)
    )
    duplicates = stream.duplicates(trace, repeated, rows, rules, why)
    if isinstance(state.progress, str):
        broken = Check("pipeline_position", Status.FAILED, state.progress)
        return [complete, duplicates, insufficient("kafka_lag", state.progress), broken]
    return [
        complete,
        duplicates,
        stream.kafka_lag(state.progress, rules),
        stream.position(state.progress, rules),
    ]


def _progress(
    kafka: KafkaSettings, connection: Connection
) -> tuple[tuple[TopicProgress, ...], Mapping[str, str]]:
    names = [kafka.topic, kafka.labels_topic]
    ids = topic_ids(kafka.bootstrap_servers, names)
    return tuple(_of_topic(kafka, connection, name, ids[name]) for name in names), ids


def _of_topic(kafka: KafkaSettings, connection: Connection, topic: str, topic_id: str) -> TopicProgress:
    with connection, connection.cursor() as cursor:
        stored = offsets.read_offsets(cursor, topic)
        idle = offsets.idle_seconds(cursor, topic)
    with PartitionReader(kafka.bootstrap_servers, topic, CLIENT) as reader:
        earliest = reader.earliest_offsets()
        positions = {
            partition: at.next_offset if (at := stored.get(partition)) and at.topic_id == topic_id else None
            for partition in earliest
        }
        starts = {partition: max(start, positions[partition] or 0) for partition, start in earliest.items()}
        ends = reader.ends(starts, END_SECONDS)
    recreated = any(at.topic_id != topic_id for at in stored.values())
    return TopicProgress(topic, positions, earliest, ends, idle, recreated)


def _trace(
    context: RunContext, kafka: KafkaSettings, connection: Connection, progress: TopicProgress, topic_id: str
) -> Trace:
    """Follow the latest records before the positions to the tables."""
    ends = {partition: at for partition, at in progress.positions.items() if at is not None}
    each = context.parameters.quality.trace_records // max(len(ends), 1)
    starts = {partition: max(progress.earliest[partition], at - each) for partition, at in ends.items()}
    starts = {partition: start for partition, start in starts.items() if start < ends[partition]}
    if not starts:
        return Trace(0, 0, 0, 0, 0, 0)
    with PartitionReader(kafka.bootstrap_servers, progress.topic, CLIENT) as reader:
        records = _records(reader, starts, ends)
    identifiers = sorted({one.transaction_id for one in records if one.transaction_id is not None})
    found = found_of(connection, identifiers)
    with connection, connection.cursor() as cursor:
        dead = dead_letters.dead_offsets(cursor, progress.topic, topic_id, starts)
    return trace_of(records, dead, found)


def _records(
    reader: PartitionReader, starts: Mapping[int, int], ends: Mapping[int, int]
) -> list[TracedRecord]:
    """The records from `starts` on and before `ends`, as far as they can be read in time."""
    reader.assign(starts)
    deadline = monotonic() + TRACE_SECONDS
    traced: list[TracedRecord] = []
    while monotonic() < deadline and any(
        at < ends[partition] for partition, at in reader.positions().items()
    ):
        records = reader.poll(_PAGE, POLL_SECONDS)
        if not records and reader.drained():
            break
        traced += [_traced(record) for record in records if record.offset < ends[record.partition]]
    return traced


def _traced(record: Record) -> TracedRecord:
    return TracedRecord(record.partition, record.offset, None if record.damage else _identifier(record.value))


def _identifier(value: bytes) -> str | None:
    try:
        content: Any = orjson.loads(value)
    except ValueError:
        return None
    identifier = content.get("transaction_id") if isinstance(content, dict) else None
    return identifier if isinstance(identifier, str) else None
