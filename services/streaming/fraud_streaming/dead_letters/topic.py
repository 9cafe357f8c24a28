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

PUBLISH_SECONDS: Final = 10.0  # the database's transaction waits meanwhile


class DeadLetterTopic:
    """Publishes dead letters; connects when there is a first one, which most runs never see.

    At least once: a crash between here and the commit publishes them again, with the same origin.

    Args:
        recheck_s: how often the topic is looked for. A broker may acknowledge records for a topic that was
            deleted (Tansu does); they are in the table all the same.
    """

    def __init__(self, bootstrap: Sequence[str], topic: str, recheck_s: float = 1.0) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._recheck_s = recheck_s
        self._checked_at = -math.inf
        self._publisher: Publisher | None = None

    def publish(self, letters: Sequence[DeadLetter]) -> None:
        """Returns once the broker has acknowledged all of them.

        Raises:
            KafkaFailure: it has not.
        """
        if not letters:
            return
        try:
            self._send(letters)
        except KafkaFailure:
            self._forget_publisher()
            raise

    def _send(self, letters: Sequence[DeadLetter]) -> None:
        publisher = self._ready_publisher()
        for letter in letters:
            publisher.send(self._topic, letter.key or b"", letter.payload or b"", headers_of(letter))
        publisher.flush()

    def _ready_publisher(self) -> Publisher:
        now = time.monotonic()
        if self._publisher is None or now - self._checked_at >= self._recheck_s:
            if ensure_topics(self._bootstrap, [self._topic]):
                self._forget_publisher()  # the numbers it gives its records belong to the topic before
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
    """What a dead letter carries besides the record: enough to know why, and to put it back."""
    said = {
        HEADER_REASON: str(letter.reason),
        HEADER_DETAIL: letter.detail,
        HEADER_ORIGIN: f"{letter.topic}/{letter.partition}/{letter.offset}",
        HEADER_ORIGIN_TIMESTAMP: None if letter.timestamp_ms is None else str(letter.timestamp_ms),
        HEADER_PAYLOAD_BYTES: str(letter.payload_bytes),
        HEADER_INCOMPLETE: None if letter.complete else "true",
        HEADER_REDRIVEN: letter.redriven_from,
    }
    texts = {name: text.encode("utf-8", "replace") for name, text in said.items() if text is not None}
    return {**letter.headers, **texts}
