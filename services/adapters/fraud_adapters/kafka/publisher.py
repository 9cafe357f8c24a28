"""Publishes records in order, acknowledged by all replicas.

A record whose acknowledgement was lost is sent again and may be in the log twice; consumers drop the second
copy by its id, as after a retry of a whole job. Kafka's idempotent producer would avoid only such copies, and
Tansu keeps the state of every producer forever, in one document that it rewrites with each request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from kafka import KafkaProducer
from kafka.errors import KafkaError

from fraud_adapters.kafka.errors import (
    BOOTSTRAP_TIMEOUT_MS,
    BrokerUnavailable,
    PublishError,
    quiet_library,
    require_broker,
    servers,
)

# kafka-python 3 buffers without a limit, so we limit the records that wait for an acknowledgement.
MAX_UNACKNOWLEDGED = 5_000
LINGER_MS = 5
BATCH_BYTES = 128 * 1024


class Publisher:
    """Sends raw bytes. A record counts as sent only once `flush` has returned.

    Args:
        bootstrap: `host:port[,host:port]` or a sequence of `host:port`.
        timeout_s: how long a record may wait for its acknowledgement, and `flush` for all of them.

    Raises:
        BrokerUnavailable: no broker answered.
    """

    def __init__(self, bootstrap: str | Sequence[str], timeout_s: float = 30.0) -> None:
        quiet_library()
        addresses = servers(bootstrap)
        require_broker(addresses)
        self._timeout_s = timeout_s
        self._waiting = 0
        self._topics: set[str] = set()
        self._failure: tuple[str, BaseException] | None = None
        delivery_ms = int(timeout_s * 1000)
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=addresses,
                bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
                acks="all",
                enable_idempotence=False,
                max_in_flight_requests_per_connection=1,  # otherwise a retry would change the order
                linger_ms=LINGER_MS,
                batch_size=BATCH_BYTES,
                delivery_timeout_ms=delivery_ms,
                request_timeout_ms=delivery_ms - LINGER_MS - 1,
                max_block_ms=delivery_ms,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except KafkaError as error:
            raise BrokerUnavailable(f"Kafka at {','.join(addresses)} does not answer: {error}.") from error

    def send(self, topic: str, key: bytes, value: bytes, headers: Mapping[str, bytes] | None = None) -> None:
        """Queue one record; blocks while too many are unacknowledged.

        Raises:
            PublishError: this record was refused, or an earlier one was not acknowledged.
        """
        if self._waiting >= MAX_UNACKNOWLEDGED:
            self.flush()
        pairs = list(headers.items()) if headers else []
        try:
            future = self._producer.send(topic, value=value, key=key, headers=pairs)
        except (KafkaError, ValueError, AssertionError) as error:
            raise _not_published(topic, error) from error
        future.add_errback(self._failed, topic)
        self._waiting += 1
        self._topics.add(topic)

    def flush(self) -> None:
        """Wait until every record sent so far is acknowledged.

        Raises:
            PublishError: a record was not acknowledged in time; it is unknown which others were: send all
                again.
        """
        # One second longer than the delivery timeout, so that the record's own failure is reported first.
        try:
            self._producer.flush(timeout=self._timeout_s + 1)
        except KafkaError as error:
            topic, cause = self._failure or (" or ".join(sorted(self._topics)), error)
            raise _not_published(topic, cause) from error
        self._waiting = 0
        self._topics.clear()
        if self._failure is not None:
            topic, cause = self._failure
            self._failure = None
            raise _not_published(topic, cause) from cause

    def close(self) -> None:
        """Flush and release the connection.

        Raises:
            PublishError: as `flush`.
        """
        try:
            self.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Release the connection; what is not yet acknowledged may or may not arrive."""
        try:
            self._producer.close(timeout=1)
        except KafkaError:
            # Unsent records remain: `flush` has raised, or the caller is already failing.
            self._producer._sender.force_close()

    def _failed(self, topic: str, error: BaseException) -> None:
        if self._failure is None:
            self._failure = (topic, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


def _not_published(topic: str, cause: BaseException) -> PublishError:
    text = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
    return PublishError(f"A record for the topic {topic} was not published: {text}.")
