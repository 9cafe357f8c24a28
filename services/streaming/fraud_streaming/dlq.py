"""The dead-letter topic."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from config.constants import HEADER_ORIGIN, HEADER_REASON
from fraud_adapters.dead_letters import DeadLetter
from fraud_adapters.kafka import Publisher, ensure_topics


class DeadLetterTopic:
    """Publishes dead letters; connects when there is a first one, which most runs never see.

    At least once: a crash between here and the commit publishes them again, with the same origin.
    """

    def __init__(self, bootstrap: Sequence[str], topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._publisher: Publisher | None = None

    def publish(self, letters: Sequence[DeadLetter]) -> None:
        """Returns once the broker has acknowledged all of them.

        Raises:
            KafkaFailure: it has not.
        """
        if not letters:
            return
        if self._publisher is None:
            ensure_topics(self._bootstrap, [self._topic])
            self._publisher = Publisher(self._bootstrap)
        for letter in letters:
            headers = {
                HEADER_REASON: str(letter.reason).encode(),
                HEADER_ORIGIN: f"{letter.topic}/{letter.partition}/{letter.offset}".encode(),
            }
            self._publisher.send(self._topic, letter.key or b"", letter.payload or b"", headers)
        self._publisher.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._publisher is not None:
            self._publisher.__exit__(kind, error, trace)
