"""The failures of Kafka, each with one sentence that a person can act on."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Sequence

from fraud_adapters.job.failures import JobFailed, LastingFailure, PassingFailure

CONNECT_TIMEOUT_S = 5.0
BOOTSTRAP_TIMEOUT_MS = 10_000


class KafkaFailure(JobFailed):
    """The base of all exceptions of the Kafka adapters."""


class BrokerUnavailable(KafkaFailure, PassingFailure):
    """No broker answered."""


class TopicMissing(KafkaFailure, PassingFailure):
    """A topic that is needed does not exist."""


class PublishError(KafkaFailure, PassingFailure):
    """A record was not acknowledged; the topic and the cause are named."""


class ReadError(KafkaFailure, PassingFailure):
    """A partition cannot be read: the stored offset is not in the log, or the broker refuses."""


class RequestFailed(KafkaFailure, PassingFailure):
    """The broker refused a request, or answered it with an error."""


class PositionUnreadable(KafkaFailure, LastingFailure):
    """The data at an offset cannot be read, and the offset of the next record is unknown."""

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"Reading of topic {topic} stops at offset {offset} of partition {partition}: {reason}, "
            "and the offset of the next record is unknown. Nothing was skipped: to skip the unreadable data, "
            "set next_offset in the table stream_offsets to an offset past it as the database's owner."
        )


def servers(bootstrap: str | Sequence[str]) -> list[str]:
    """`host:port,host:port` or a sequence of `host:port` as a list."""
    return bootstrap.split(",") if isinstance(bootstrap, str) else list(bootstrap)


def require_broker(bootstrap: Sequence[str]) -> None:
    """Fail early if no broker listens.

    kafka-python would retry in a thread that outlives the failed constructor, and log every attempt.

    Raises:
        BrokerUnavailable: none of the addresses accepts a connection.
    """
    causes = []
    for address in bootstrap:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
            return
        except OSError as error:
            causes.append(f"{address}: {error.strerror or error}")
    raise BrokerUnavailable(f"Kafka cannot be reached ({'; '.join(causes)}): check KAFKA_BOOTSTRAP_SERVERS.")


def quiet_library() -> None:
    """Raise the log levels of kafka-python, which logs every connection and warns on a busy machine."""
    logging.getLogger("kafka").setLevel(logging.WARNING)
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)


def topics_missing(names: Iterable[str]) -> TopicMissing:
    return TopicMissing(f"Kafka has no topic {', '.join(sorted(names))}: create it before it is used.")
