"""Where everything is, and what each topic's records become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from config.parameters import Streaming
from config.settings import ApiClientSettings, DatabaseSettings, KafkaSettings
from fraud_core.contract import Contract
from fraud_core.records import RecordParser
from fraud_streaming.labels import LabelWork
from fraud_streaming.transactions import Scorer, TransactionWork
from fraud_streaming.work import Work

SERVICE: Final = "fraud-streaming"


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything is and what the consumer may do."""

    contract: Contract
    database: DatabaseSettings
    kafka: KafkaSettings
    api: ApiClientSettings
    streaming: Streaming

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


def feeds(site: Site) -> tuple[Feed, Feed]:
    """The transactions topic and the labels topic, in the order a bounded run drains them."""

    def transactions(scorer: Scorer) -> Work[Any]:
        return TransactionWork(
            site.contract,
            RecordParser(site.contract, max_bytes=site.streaming.max_record_bytes),
            scorer,
            payload_bytes=site.streaming.dead_letter_payload_bytes,
            clock=_now,
        )

    def labels(_scorer: Scorer) -> Work[Any]:
        return LabelWork(
            max_bytes=site.streaming.max_record_bytes,
            payload_bytes=site.streaming.dead_letter_payload_bytes,
            clock=_now,
        )

    return (
        Feed("transactions", site.kafka.topic, site.kafka.group, True, transactions),
        Feed("labels", site.kafka.labels_topic, site.kafka.labels_group, False, labels),
    )


def _now() -> datetime:
    return datetime.now(UTC)
