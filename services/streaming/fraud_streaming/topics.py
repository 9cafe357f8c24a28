"""`topics`: creates missing topics, reports how far each has been read, and shows its latest records."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from config.job_results.streaming import (
    PartitionState,
    ShownRecord,
    TopicsCreatedResult,
    TopicsResult,
    TopicState,
)
from config.settings import DatabaseSettings, KafkaSettings
from fraud_adapters.kafka import (
    BrokerUnavailable,
    PartitionReader,
    Record,
    TopicMissing,
    ensure_topics,
    topic_ids,
)
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.alert_outbox import alerts_waiting
from fraud_adapters.postgres.offsets import StoredOffset, read_offset
from fraud_core.moments import moment_of_milliseconds

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

CLIENT: Final = "fraud-streaming-topics"
NAMES: Final = ("transactions", "labels", "alerts", "dlq")
POLL_SECONDS: Final = 2.0
ATTEMPTS: Final = 10  # empty polls in a row after which the broker counts as unresponsive
PAGE: Final = 500
MAX_SPAN: Final = 10_000  # offsets of a partition that are searched for its latest records
MAX_TEXT: Final = 2000  # characters of a value shown
SHOWN_BYTES: Final = 4 * MAX_TEXT


def describe(
    database: DatabaseSettings, kafka: KafkaSettings, peek: int, only: str | None = None
) -> TopicsResult:
    """Per topic and partition: the stored position, the end, the lag, and the latest `peek` records; and how
    many alerts wait to be published.

    Args:
        only: one of `NAMES`; all of them by default.

    Raises:
        KafkaFailure: the topics cannot be read.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    topics = dict(
        zip(NAMES, (kafka.topic, kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic), strict=True)
    )
    names = NAMES if only is None else (only,)
    with closing(connect(database.url, CLIENT)) as conn:
        shown = [_topic(conn, kafka.bootstrap_servers, name, topics[name], peek) for name in names]
        with conn, conn.cursor() as cur:
            return {"topics": shown, "alerts_waiting": alerts_waiting(cur)}


def create(kafka: KafkaSettings, partitions: int) -> TopicsCreatedResult:
    """Create those of the four topics that do not exist; existing topics keep their partitions.

    Raises:
        KafkaFailure: the broker cannot be reached, or refuses the request.
    """
    names = [kafka.topic, kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic]
    created = ensure_topics(kafka.bootstrap_servers, names, partitions)
    return {"status": "done", "topics": names, "created": created}


def _topic(conn: Connection, servers: list[str], name: str, topic: str, peek: int) -> TopicState:
    consumed = name in {"transactions", "labels"}
    try:
        topic_id = topic_ids(servers, [topic])[topic]
    except TopicMissing:
        return {"topic": topic, "exists": False, "consumed": consumed}
    with PartitionReader(servers, topic, CLIENT, SHOWN_BYTES) as reader:
        earliest = reader.earliest_offsets()
        ends = _ends(reader, earliest)
        records = _latest(reader, earliest, ends, peek) if peek else []
    with conn, conn.cursor() as cur:
        stored = {partition: read_offset(cur, topic, partition) for partition in ends}
    partitions: list[PartitionState] = [
        {"partition": partition, "earliest": earliest[partition], "end": end}
        for partition, end in sorted(ends.items())
    ]
    state: TopicState = {
        "topic": topic,
        "exists": True,
        "consumed": consumed,
        "id": topic_id,
        "partitions": partitions,
        "records": records,
    }
    if consumed:
        for partition_state in partitions:
            _add_progress(partition_state, stored[partition_state["partition"]], topic_id)
        state["lag"] = _sum([partition_state["lag"] for partition_state in partitions])
    return state


def _add_progress(state: PartitionState, stored: StoredOffset | None, topic_id: str) -> None:
    """Add position and lag; the lag is None if the position belongs to a deleted topic of this name."""
    same = state["same_topic"] = stored is None or stored.topic_id == topic_id
    state["position"] = None if stored is None else stored.next_offset
    start = state["earliest"] if stored is None else stored.next_offset
    state["lag"] = state["end"] - start if same else None


def _sum(lags: list[int | None]) -> int | None:
    known = [lag for lag in lags if lag is not None]
    return sum(known) if len(known) == len(lags) else None


def _ends(reader: PartitionReader, earliest: dict[int, int]) -> dict[int, int]:
    reader.assign(earliest)
    for _ in range(ATTEMPTS):
        reader.poll(1, POLL_SECONDS)
        if set(marks := reader.high_watermarks()) == set(earliest):
            return marks
    raise BrokerUnavailable("Kafka does not answer a fetch.")


def _latest(
    reader: PartitionReader, earliest: dict[int, int], ends: dict[int, int], peek: int
) -> list[ShownRecord]:
    """The latest records before `ends`, which bounds the search while producers keep writing."""
    span = peek
    while True:
        starts = {partition: max(earliest[partition], end - span) for partition, end in ends.items()}
        records = _between(reader, starts, ends)
        if len(records) >= peek or starts == earliest or span >= MAX_SPAN:
            break
        span = min(4 * span, MAX_SPAN)  # some offsets hold no record
    records.sort(key=lambda record: (record.timestamp_ms, record.partition, record.offset))
    return [_shown(record) for record in records[-peek:]]


def _between(reader: PartitionReader, starts: dict[int, int], ends: dict[int, int]) -> list[Record]:
    reader.assign(starts)
    records: list[Record] = []
    silent = 0
    while silent < ATTEMPTS and any(
        offset < ends[partition] for partition, offset in reader.positions().items()
    ):
        polled = reader.poll(PAGE, POLL_SECONDS)
        if not polled and reader.drained():
            break  # the remaining records belong to a transaction that is still open
        silent = 0 if polled else silent + 1
        records += [record for record in polled if record.offset < ends[record.partition]]
    return records


def _shown(record: Record) -> ShownRecord:
    moment = moment_of_milliseconds(record.timestamp_ms)
    shown: ShownRecord = {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": moment.isoformat() if moment is not None else None,
        "key": _text(record.key or b""),
        "headers": {name: _text(value) for name, value in record.headers.items()},
        "value": _text(record.value),
        "value_bytes": record.value_bytes,
    }
    if record.damage is not None:
        shown["damage"], shown["detail"] = record.damage, record.detail
    return shown


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")[:MAX_TEXT]
