"""Creates topics and reads their ids.

It uses only requests that all our brokers support: Tansu has CreateTopics but not CreatePartitions, so a
topic keeps the partitions it was created with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from fraud_adapters.kafka.errors import (
    BOOTSTRAP_TIMEOUT_MS,
    BrokerUnavailable,
    RequestFailed,
    quiet_library,
    require_broker,
    servers,
    topics_missing,
)

CREATE_TIMEOUT_MS = 10_000


def ensure_topics(
    bootstrap: str | Sequence[str], names: Sequence[str], partitions: int = 1, replication_factor: int = 1
) -> list[str]:
    """Create the topics that do not exist yet; safe to call again and from several processes at once.

    Returns:
        the names that were created now.

    Raises:
        BrokerUnavailable: no broker answered.
        KafkaFailure: the broker refused; the topic and its reason are named.
    """
    with _admin(bootstrap) as admin:
        found = {topic["name"] for topic in admin.describe_topics(list(names)) if not topic["error_code"]}
        new_topics = {
            name: {"num_partitions": partitions, "replication_factor": replication_factor}
            for name in names
            if name not in found
        }
        if not new_topics:
            return []
        answer = admin.create_topics(new_topics, timeout_ms=CREATE_TIMEOUT_MS, raise_errors=False)
        created = [topic["name"] for topic in answer["topics"] if _created(topic)]
        admin.wait_for_topics(list(new_topics), timeout_ms=CREATE_TIMEOUT_MS)
    return created


def topic_ids(bootstrap: str | Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """The ids of topics: a topic that was deleted and created again has another id.

    Raises:
        BrokerUnavailable: no broker answered.
        TopicMissing: a topic does not exist.
    """
    with _admin(bootstrap) as admin:
        found = {
            topic["name"]: str(topic["topic_id"])
            for topic in admin.describe_topics(list(names))
            if not topic["error_code"]
        }
    if absent := set(names) - set(found):
        raise topics_missing(absent)
    return found


def _created(topic: dict[str, Any]) -> bool:
    error = for_code(topic["error_code"])
    if error is TopicAlreadyExistsError:
        return False
    if topic["error_code"]:
        cause = topic["error_message"] or error.__name__
        raise RequestFailed(f"Kafka refused to create the topic {topic['name']}: {cause}.")
    return True


@contextmanager
def _admin(bootstrap: str | Sequence[str]) -> Iterator[Any]:
    quiet_library()
    addresses = servers(bootstrap)
    require_broker(addresses)
    try:
        admin = KafkaAdminClient(bootstrap_servers=addresses, bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS)
    except KafkaError as error:
        raise BrokerUnavailable(f"Kafka at {','.join(addresses)} does not answer: {error}.") from error
    try:
        yield admin
    except KafkaError as error:
        raise RequestFailed(f"Kafka at {','.join(addresses)}: {error}.") from error
    finally:
        admin.close()
