"""What the API exports of its dependencies, against a real broker and a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from config.settings import KafkaSettings
from fraud_adapters.kafka import Publisher, ensure_topics, topic_ids
from fraud_adapters.postgres.session import Session
from fraud_api.dependency_metrics import DependencyMetrics
from fraud_api.metrics import Metrics
from tests.support.stored_rows import Database, run

NOWHERE = ["127.0.0.1:1"]


class Dependencies:
    """The dependencies of an API of the test's own, and the metrics it exports of them."""

    def __init__(self, database: Database, kafka: KafkaSettings) -> None:
        self.database, self.kafka, self.metrics = database, kafka, Metrics()
        self.session, self.registry_answers = Session(database.url("api"), "test"), True

    def poll(self, bootstrap: list[str] | None = None, **limits: float) -> dict[str, float | None]:
        """Check once; the parts, and the lag of the topic."""
        servers = bootstrap or self.kafka.bootstrap_servers
        watch = DependencyMetrics(
            self.metrics, self.session, servers, [self.kafka.topic], lambda: self.registry_answers, **limits
        )
        watch.poll()
        parts = ("broker", "topic", "database", "registry")
        value = self.metrics.registry.get_sample_value
        up = {part: value("fraud_api_dependency_up", {"part": part}) for part in parts}
        return up | {"lag": value("fraud_kafka_lag_records", {"topic": self.kafka.topic})}

    def send(self, records: int) -> None:
        with Publisher(self.kafka.bootstrap_servers) as publisher:
            for number in range(records):
                publisher.send(self.kafka.topic, b"%d" % number, b"{}")
            publisher.flush()

    def store_position(self, next_offset: int, topic_id: str | None = None) -> None:
        """As the consumer does."""
        topic = self.kafka.topic
        own = topic_id or topic_ids(self.kafka.bootstrap_servers, [topic])[topic]
        run(
            self.database.url("streaming"),
            "INSERT INTO stream_offsets (topic, partition, topic_id, next_offset) VALUES (%s, 0, %s, %s)"
            " ON CONFLICT (topic, partition) DO UPDATE SET topic_id = excluded.topic_id,"
            " next_offset = excluded.next_offset",
            topic, own, next_offset,
        )  # fmt: skip


@pytest.fixture
def dependencies(database: Database, topics: KafkaSettings) -> Iterator[Dependencies]:
    made = Dependencies(database, topics)
    with closing(made.session):
        yield made


UP = {"broker": 1, "topic": 1, "database": 1, "registry": 1}


def test_the_lag_is_what_nobody_has_read(dependencies: Dependencies) -> None:
    assert dependencies.poll() == {**UP, "lag": 0}
    dependencies.send(30)
    assert dependencies.poll() == {**UP, "lag": 30}, "never read: from the oldest record on"
    dependencies.store_position(12)
    assert dependencies.poll() == {**UP, "lag": 18}
    dependencies.store_position(30)
    assert dependencies.poll() == {**UP, "lag": 0}
    dependencies.send(5)
    assert dependencies.poll() == {**UP, "lag": 5}
    dependencies.store_position(30, topic_id="of-the-topic-before")
    assert dependencies.poll() == {**UP, "lag": 35}, "a position in another topic of the name does not count"


def test_lag_is_added_up_over_partitions(dependencies: Dependencies) -> None:
    dependencies.kafka = dependencies.kafka.model_copy(
        update={"kafka_topic": f"{dependencies.kafka.topic}-wide"}
    )
    ensure_topics(dependencies.kafka.bootstrap_servers, [dependencies.kafka.topic], partitions=3)
    dependencies.send(40)
    assert dependencies.poll()["lag"] == 40


def test_what_does_not_answer_is_shown_and_no_lag_is_made_up(dependencies: Dependencies) -> None:
    dependencies.send(3)
    assert dependencies.poll()["lag"] == 3
    dependencies.registry_answers = False
    assert dependencies.poll(NOWHERE) == {
        "broker": 0, "topic": 0, "database": 1, "registry": 0, "lag": None
    }  # fmt: skip
    dependencies.registry_answers = True
    dependencies.session = Session("postgresql://fraud_api@127.0.0.1:1/none", "test")
    assert dependencies.poll() == {**UP, "database": 0, "lag": None}
    dependencies.kafka = dependencies.kafka.model_copy(update={"kafka_topic": "there-is-none"})
    assert dependencies.poll() == {**UP, "topic": 0, "database": 0, "lag": None}


def test_an_end_that_is_not_known_gives_no_lag(dependencies: Dependencies) -> None:
    """A lag that leaves a partition out would look like a stream that keeps up."""
    dependencies.send(3)
    assert dependencies.poll(fetch_seconds=0.0) == {**UP, "lag": None}
