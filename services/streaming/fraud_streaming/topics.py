"""`topics`: how far each topic has been read, and a look at its records."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Final

from config.settings import DatabaseSettings, KafkaSettings
from fraud_adapters.alert_outbox import alerts_waiting
from fraud_adapters.job import JobFailed
from fraud_adapters.kafka import KafkaFailure, PartitionReader, Record, TopicMissing, topic_ids
from fraud_adapters.offsets import read_offset
from fraud_adapters.postgres import DatabaseUnavailable, connect

CLIENT: Final = "fraud-streaming-topics"
POLL_SECONDS: Final = 2.0
MAX_TEXT: Final = 2000  # characters of a value shown


def describe(database: DatabaseSettings, kafka: KafkaSettings, peek: int) -> dict[str, Any]:
    """Per topic and partition: the stored position, the end, the lag, and the latest `peek` records; and how
    many alerts wait to be published.

    Raises:
        JobFailed: Kafka or Postgres cannot be reached.
    """
    names = [kafka.topic, kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic]
    try:
        shown = [_topic(database, kafka.bootstrap_servers, name, peek) for name in names]
        return {"topics": shown, "alerts_waiting": _alerts_waiting(database)}
    except (KafkaFailure, DatabaseUnavailable) as error:
        raise JobFailed(str(error)) from error


def _alerts_waiting(database: DatabaseSettings) -> int:
    with closing(connect(database.url, CLIENT)) as conn, conn.cursor() as cur:
        return alerts_waiting(cur)


def _topic(database: DatabaseSettings, servers: list[str], name: str, peek: int) -> dict[str, Any]:
    try:
        topic_id = topic_ids(servers, [name])[name]
    except TopicMissing:
        return {"topic": name, "exists": False}
    with (
        closing(connect(database.url, CLIENT)) as conn,
        conn.cursor() as cur,
        PartitionReader(servers, name, client_id=CLIENT) as reader,
    ):
        earliest = reader.earliest_offsets()
        ends = _ends(reader, earliest)
        partitions = []
        for partition, end in ends.items():
            stored = read_offset(cur, name, partition)
            position = stored.next_offset if stored else None
            partitions.append(
                {
                    "partition": partition,
                    "earliest": earliest[partition],
                    "end": end,
                    "position": position,
                    "lag": end - (earliest[partition] if position is None else position),
                    "same_topic": stored is None or stored.topic_id == topic_id,
                }
            )
        records = _latest(reader, earliest, ends, peek) if peek else []
    return {"topic": name, "exists": True, "id": topic_id, "partitions": partitions, "records": records}


def _ends(reader: PartitionReader, earliest: dict[int, int]) -> dict[int, int]:
    reader.assign(earliest)
    for _ in range(10):
        reader.poll(1, POLL_SECONDS)
        if set(marks := reader.high_watermarks()) == set(earliest):
            return marks
    raise JobFailed("Kafka does not answer a fetch.")


def _latest(
    reader: PartitionReader, earliest: dict[int, int], ends: dict[int, int], peek: int
) -> list[dict[str, Any]]:
    reader.assign({partition: max(earliest[partition], end - peek) for partition, end in ends.items()})
    records: list[Record] = []
    while found := reader.poll(peek, POLL_SECONDS):
        records += found
    records.sort(key=lambda record: record.timestamp_ms)
    return [_shown(record) for record in records[-peek:]]


def _shown(record: Record) -> dict[str, Any]:
    return {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _text(record.key or b""),
        "headers": {name: _text(value) for name, value in record.headers.items()},
        "value": _text(record.value),
    }


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")[:MAX_TEXT]
