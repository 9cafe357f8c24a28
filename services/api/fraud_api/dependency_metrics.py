"""What the API sees of its dependencies: whether they answer, and how far the stream is behind.

Bounded runs of the stream end before Prometheus could ask them, so a process that stays measures the lag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from fraud_adapters.kafka import KafkaFailure, PartitionReader, TopicMissing, topic_ids
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.offsets import StoredOffset, read_offsets
from fraud_adapters.postgres.session import Session
from fraud_api.metrics import Metrics

SECONDS: Final = 30.0  # between two checks
_CLIENT: Final = "fraud-api-lag"
_FETCH_SECONDS: Final = 5.0  # for the ends of a topic's partitions
_KEEP_BYTES: Final = 1  # only the end of the log is of interest


class DependencyMetrics:
    """Checks the dependencies each time it is called.

    Args:
        topics: the topics that the platform consumes.
        registry_answers: whether MLflow answers.
        fetch_seconds: how long to wait for the ends of a topic's partitions.
    """

    def __init__(
        self,
        metrics: Metrics,
        session: Session,
        bootstrap: Sequence[str],
        topics: Sequence[str],
        registry_answers: Callable[[], bool],
        *,
        fetch_seconds: float = _FETCH_SECONDS,
    ) -> None:
        self._metrics, self._session = metrics, session
        self._bootstrap, self._topics = list(bootstrap), list(topics)
        self._registry_answers = registry_answers
        self._fetch_seconds = fetch_seconds

    def poll(self) -> None:
        """Check once; what cannot be known is not exported."""
        self._set("registry", self._registry_answers())
        positions = self._positions()
        self._set("database", positions is not None)
        lags: dict[str, int | None] = {}
        broker = topic = True
        try:
            for name, topic_id in topic_ids(self._bootstrap, self._topics).items():
                if positions is not None:
                    lags[name] = self._lag(name, topic_id, positions[name])
        except TopicMissing:
            topic = False
        except KafkaFailure:
            broker = topic = False
        self._set("broker", broker)
        self._set("topic", topic)
        # Last, so that a scrape during the check finds the lag of the check before.
        self._metrics.lag.clear()
        for name, lag in lags.items():
            if lag is not None:
                self._metrics.lag.labels(name).set(lag)

    def _positions(self) -> dict[str, dict[int, StoredOffset]] | None:
        try:
            return {topic: self._session.run(partial(read_offsets, topic=topic)) for topic in self._topics}
        except DatabaseUnavailable:
            return None

    def _lag(self, topic: str, topic_id: str, stored: dict[int, StoredOffset]) -> int | None:
        """Records from the stored positions, or the oldest record, to the end; None if an end is not known.

        Raises:
            KafkaFailure: the broker does not answer.
        """
        with PartitionReader(self._bootstrap, topic, _CLIENT, _KEEP_BYTES) as reader:
            positions = reader.earliest_offsets()
            ends = reader.ends(positions, self._fetch_seconds)
        if ends.keys() != positions.keys():
            return None
        for partition, position in stored.items():
            if position.topic_id == topic_id and partition in positions:
                positions[partition] = max(positions[partition], position.next_offset)
        return sum(max(0, end - positions[partition]) for partition, end in ends.items())

    def _set(self, part: str, answers: bool) -> None:
        self._metrics.dependency_up.labels(part).set(answers)
