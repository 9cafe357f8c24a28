"""Commits offsets for Kafka's own lag tools; the authoritative positions are in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from fraud_adapters.kafka.errors import RequestFailed
from fraud_adapters.kafka.topics import _admin


def commit_group_offsets(
    bootstrap: str | Sequence[str], group: str, topic: str, offsets: Mapping[int, int]
) -> None:
    """Commit offsets for a group that has no members.

    Raises:
        KafkaFailure: the broker refused, or none answered. A group with members is refused, and on Tansu
            one that crashed counts until the next member joins.
    """
    values = {
        TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
        for partition, offset in offsets.items()
    }
    with _admin(bootstrap) as admin:
        answers = admin.alter_group_offsets(group, values)
    refused = {at.partition: error.__name__ for at, error in answers.items() if error.errno}
    if refused:
        raise RequestFailed(f"Kafka refused the group {group}'s position in {topic}: {refused}.")
