"""Whether the consumer would take a record, without asking the API or the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from config.settings import KafkaSettings
from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_core.contract import Contract
from fraud_core.labels import LabelEvent
from fraud_core.records import RecordParser
from fraud_streaming.consume.labels import label_of


class RecordCheck:
    """Checks records of the topics that are consumed."""

    def __init__(self, contract: Contract, kafka: KafkaSettings, max_bytes: int) -> None:
        self._parser = RecordParser(contract, max_bytes=max_bytes)
        self._card = contract.with_role("card")
        self._max_bytes = max_bytes
        self._transactions = kafka.topic
        self._labels = kafka.labels_topic

    def knows(self, topic: str) -> bool:
        return topic in {self._transactions, self._labels}

    def __call__(self, letter: DeadLetter, payload: bytes) -> tuple[str, str] | None:
        """The reason and a sentence why the consumer would refuse it; None where it would not.

        A record without a time would be given its own, which always is one.
        """
        now = datetime.now(UTC)
        if letter.topic == self._labels:
            said = label_of(payload, now, self._max_bytes)
            return None if isinstance(said, LabelEvent) else said
        rejected = self._parser.parse([payload], [now]).rejected
        return (rejected[0].reason, rejected[0].detail) if rejected else None

    def key(self, topic: str, record: Mapping[str, Any]) -> bytes | None:
        """The key a sender would have given it: card where there is one, else transaction id."""
        card = record.get(self._card.name) if self._card and topic == self._transactions else None
        key = card or record.get("transaction_id")
        return key.encode("utf-8", "replace") if isinstance(key, str) else None
