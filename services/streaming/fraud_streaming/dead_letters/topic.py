"""The dead-letter topic."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from config.constants import (
    HEADER_DETAIL,
    HEADER_INCOMPLETE,
    HEADER_ORIGIN,
    HEADER_ORIGIN_TIMESTAMP,
    HEADER_PAYLOAD_BYTES,
    HEADER_REASON,
    HEADER_REDRIVEN,
)
from fraud_adapters.kafka import KafkaFailure, Publisher, ensure_topics
from fraud_adapters.postgres.dead_letters import DeadLetter

PUBLISH_SECONDS: Final = 10.0  # short, because the database transaction stays open meanwhile


class DeadLetterTopic:
    """Publishes dead letters; connects for the first one, because most runs have none.

    Delivery is at least once: a crash between publishing and the commit publishes them again, with the same
    origin.

    Args:
        recheck_s: how often the existence of the topic is checked. A broker may acknowledge records for a
            deleted topic (Tansu does); the table `dead_letters` holds them nevertheless.
    """

    def __init__(self, bootstrap: Sequence[str], topic: str, recheck_s: float = 1.0) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._recheck_s = recheck_s
        self._checked_at = -math.inf
        self._publisher: Publisher | None = None

    def publish(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Publish dead letters and wait until the broker has acknowledged all of them.

        Raises:
            KafkaFailure: a record was not acknowledged.
        """
        if not dead_letters:
            return
        try:
            self._send(dead_letters)
        except KafkaFailure:
            self._forget_publisher()
            raise

    def _send(self, dead_letters: Sequence[DeadLetter]) -> None:
        publisher = self._ready_publisher()
        for letter in dead_letters:
            publisher.send(self._topic, letter.key or b"", letter.payload or b"", headers_of(letter))
        publisher.flush()

    def _ready_publisher(self) -> Publisher:
        now = time.monotonic()
        if self._publisher is None or now - self._checked_at >= self._recheck_s:
            if ensure_topics(self._bootstrap, [self._topic]):
                self._forget_publisher()  # its sequence numbers belong to the deleted topic
            self._checked_at = now
        if self._publisher is None:
            self._publisher = Publisher(self._bootstrap, PUBLISH_SECONDS)
        return self._publisher

    def _forget_publisher(self) -> None:
        if self._publisher is not None:
            self._publisher.abandon()
            self._publisher = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._publisher is not None:
            self._publisher.__exit__(kind, error, trace)


def headers_of(letter: DeadLetter) -> dict[str, bytes]:
    """The headers of a dead letter: why the record failed, and what is needed to put it back."""
    values = {
        HEADER_REASON: str(letter.reason),
        HEADER_DETAIL: letter.detail,
        HEADER_ORIGIN: f"{letter.topic}/{letter.partition}/{letter.offset}",
        HEADER_ORIGIN_TIMESTAMP: None if letter.timestamp_ms is None else str(letter.timestamp_ms),
        HEADER_PAYLOAD_BYTES: str(letter.payload_bytes),
        HEADER_INCOMPLETE: None if letter.complete else "true",
        HEADER_REDRIVEN: letter.redriven_from,
    }
    texts = {name: text.encode("utf-8", "replace") for name, text in values.items() if text is not None}
    return {**letter.headers, **texts}
