"""Kafka: topics, publishing, reading. The only package that imports a Kafka client."""

from fraud_adapters.kafka.errors import (
    BrokerUnavailable,
    KafkaFailure,
    PositionUnreadable,
    PublishError,
    ReadError,
    TopicMissing,
)
from fraud_adapters.kafka.member import GroupMember
from fraud_adapters.kafka.publisher import Publisher
from fraud_adapters.kafka.reader import PartitionReader
from fraud_adapters.kafka.record import Damage, Record
from fraud_adapters.kafka.topics import ensure_topics, topic_ids

__all__ = [
    "BrokerUnavailable",
    "Damage",
    "GroupMember",
    "KafkaFailure",
    "PartitionReader",
    "PositionUnreadable",
    "PublishError",
    "Publisher",
    "ReadError",
    "Record",
    "TopicMissing",
    "ensure_topics",
    "topic_ids",
]
