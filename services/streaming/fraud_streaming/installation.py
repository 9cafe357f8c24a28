"""The installation a consumer works in, and the topics that it consumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from config.parameters import Streaming
from config.settings import ApiClientSettings, DatabaseSettings, KafkaSettings
from fraud_adapters.postgres import connect
from fraud_core.contract import Contract
from fraud_core.records import RecordParser
from fraud_streaming.consume.labels import LabelProcessor
from fraud_streaming.consume.processor import RecordProcessor
from fraud_streaming.consume.transactions import Scorer, TransactionProcessor

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

SERVICE: Final = "fraud-streaming"


@dataclass(frozen=True, slots=True)
class Installation:
    """The contract, the connections and the limits that the consumer works with."""

    contract: Contract
    database: DatabaseSettings
    kafka: KafkaSettings
    api: ApiClientSettings
    streaming: Streaming

    def connect(self, name: str) -> Connection:
        """A database session with this name.

        The server ends the session if a transaction stays idle for `stalled_after_seconds`, so that a frozen
        process does not keep its locks.

        Raises:
            DatabaseUnavailable: the server does not answer, or refuses the log-in.
        """
        return connect(self.database.url, name, idle_in_transaction_s=self.streaming.stalled_after_seconds)

    @property
    def keep_bytes(self) -> int:
        """How much of a record's value is kept: enough to reject a large record and for its dead letter."""
        return max(self.streaming.max_record_bytes + 1, self.streaming.dead_letter_payload_bytes)


@dataclass(frozen=True, slots=True)
class ConsumedTopic:
    """A topic that is consumed."""

    name: str  # in results, logs and metrics
    topic: str
    group: str  # under which Kafka's own tools see the position
    needs_api: bool
    make_processor: Callable[[Scorer], RecordProcessor[Any]]


def consumed_topics(installation: Installation) -> tuple[ConsumedTopic, ConsumedTopic]:
    """The transactions topic and the labels topic, in the order a bounded run drains them."""

    def transactions(scorer: Scorer) -> RecordProcessor[Any]:
        return TransactionProcessor(
            installation.contract,
            RecordParser(installation.contract, max_bytes=installation.streaming.max_record_bytes),
            scorer,
            payload_bytes=installation.streaming.dead_letter_payload_bytes,
            clock=_now,
        )

    def labels(_scorer: Scorer) -> RecordProcessor[Any]:
        return LabelProcessor(
            max_bytes=installation.streaming.max_record_bytes,
            payload_bytes=installation.streaming.dead_letter_payload_bytes,
            clock=_now,
        )

    return (
        ConsumedTopic("transactions", installation.kafka.topic, installation.kafka.group, True, transactions),
        ConsumedTopic(
            "labels", installation.kafka.labels_topic, installation.kafka.labels_group, False, labels
        ),
    )


def _now() -> datetime:
    return datetime.now(UTC)
