"""Whether the consumer would accept a record, checked without the API and the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from config.settings import KafkaSettings
from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_core.contract import Contract
from fraud_core.labels import LabelEvent
from fraud_core.records import RecordParser
from fraud_streaming.consume.labels import parse_label_record


class RecordCheck:
    """Checks records of the consumed topics."""

    def __init__(self, contract: Contract, kafka: KafkaSettings, max_bytes: int) -> None:
        self._parser = RecordParser(contract, max_bytes=max_bytes)
        self._card = contract.with_role("card")
        self._max_bytes = max_bytes
        self._transactions = kafka.topic
        self._labels = kafka.labels_topic

    def knows(self, topic: str) -> bool:
        return topic in {self._transactions, self._labels}

    def __call__(self, letter: DeadLetter, payload: bytes) -> tuple[str, str] | None:
        """The reason code and a sentence why the consumer would reject the record; None if it accepts it.

        A record without an event time is checked with the current time, which is always valid.
        """
        now = datetime.now(UTC)
        if letter.topic == self._labels:
            label = parse_label_record(payload, now, self._max_bytes)
            return None if isinstance(label, LabelEvent) else label
        rejected = self._parser.parse([payload], [now]).rejected
        return (rejected[0].reason, rejected[0].detail) if rejected else None

    def key(self, topic: str, record: Mapping[str, Any]) -> bytes | None:
        """The key a sender would use: the card if there is one, else the transaction id."""
        card = record.get(self._card.name) if self._card and topic == self._transactions else None
        key = card or record.get("transaction_id")
        return key.encode("utf-8", "replace") if isinstance(key, str) else None
