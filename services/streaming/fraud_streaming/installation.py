"""Where everything is, and what each topic's records become."""

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
from fraud_streaming.consume.labels import LabelWork
from fraud_streaming.consume.transactions import Scorer, TransactionWork
from fraud_streaming.consume.work import Work

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

SERVICE: Final = "fraud-streaming"


@dataclass(frozen=True, slots=True)
class Installation:
    """Where everything is and what the consumer may do."""

    contract: Contract
    database: DatabaseSettings
    kafka: KafkaSettings
    api: ApiClientSettings
    streaming: Streaming

    def connect(self, name: str) -> Connection:
        """A database session of this name. The server ends it if a transaction of it waits for this process
        as long as a stalled holder is given: one that is frozen must not keep what it has locked.

        Raises:
            DatabaseUnavailable: nobody answers, or the log-in is refused.
        """
        return connect(self.database.url, name, idle_in_transaction_s=self.streaming.stalled_after_seconds)

    @property
    def keep_bytes(self) -> int:
        """Of a record's value: enough to see that it is too large, and for its dead letter."""
        return max(self.streaming.max_record_bytes + 1, self.streaming.dead_letter_payload_bytes)


@dataclass(frozen=True, slots=True)
class Feed:
    """A topic that is consumed."""

    name: str  # what results, logs and metrics call it
    topic: str
    group: str  # under which Kafka's own tools see the position
    asks_api: bool
    work: Callable[[Scorer], Work[Any]]


def feeds(installation: Installation) -> tuple[Feed, Feed]:
    """The transactions topic and the labels topic, in the order a bounded run drains them."""

    def transactions(scorer: Scorer) -> Work[Any]:
        return TransactionWork(
            installation.contract,
            RecordParser(installation.contract, max_bytes=installation.streaming.max_record_bytes),
            scorer,
            payload_bytes=installation.streaming.dead_letter_payload_bytes,
            clock=_now,
        )

    def labels(_scorer: Scorer) -> Work[Any]:
        return LabelWork(
            max_bytes=installation.streaming.max_record_bytes,
            payload_bytes=installation.streaming.dead_letter_payload_bytes,
            clock=_now,
        )

    return (
        Feed("transactions", installation.kafka.topic, installation.kafka.group, True, transactions),
        Feed("labels", installation.kafka.labels_topic, installation.kafka.labels_group, False, labels),
    )


def _now() -> datetime:
    return datetime.now(UTC)
