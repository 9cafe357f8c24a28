"""Publishes alerts for blocked and reviewed transactions of both the stream and the API."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg2

from config.constants import ALERT_SCHEMA, HEADER_SCHEMA, HEADER_TRACEPARENT
from fraud_adapters.kafka import Publisher, ensure_topics
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.alert_outbox import Alert, delete_alerts, take_alerts
from fraud_core.contract import Contract
from fraud_core.decision import Decision

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

CLIENT: Final = "fraud-streaming-alerts"
BATCH_ALERTS: Final = 500


class AlertRelay:
    """Moves alerts from the outbox to their topic; for use from one thread. Relays may run in parallel.

    Delivery is at least once: an alert is deleted from the outbox after the broker has acknowledged it, so a
    crash in between publishes it again, with the same key. The relay connects on first use and again after a
    failure.

    Args:
        connect: opens a database session with the given name and the role of the streaming service.
        batch: how many alerts at most are published in one database transaction.
    """

    def __init__(
        self,
        connect: Callable[[str], Connection],
        bootstrap: Sequence[str],
        topic: str,
        contract: Contract,
        *,
        batch: int = BATCH_ALERTS,
    ) -> None:
        self._connect = connect
        self._bootstrap = bootstrap
        self._topic = topic
        self._contract = contract
        self._batch = batch
        self._conn: Connection | None = None
        self._publisher: Publisher | None = None

    def publish(self) -> int:
        """Publish all waiting alerts and return their number. If none waits, this costs one query.

        Raises:
            KafkaFailure, DatabaseUnavailable: unpublished alerts stay in the outbox, perhaps with published
                ones.
        """
        published = 0
        try:
            while taken := self._publish_some():
                published += taken
                if taken < self._batch:
                    break
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self._abandon()
            raise DatabaseUnavailable(
                f"Postgres was lost while alerts were published: {' '.join(str(error).split()).rstrip('.')}."
            ) from error
        except BaseException:
            self._abandon()
            raise
        return published

    def _publish_some(self) -> int:
        if self._conn is None:
            self._conn = self._connect(CLIENT)
        with self._conn, self._conn.cursor() as cur:
            alerts = take_alerts(cur, self._contract, self._batch)
            if alerts:
                self._send(alerts)
                delete_alerts(cur, alerts)
        return len(alerts)

    def _send(self, alerts: Sequence[Alert]) -> None:
        if self._publisher is None:
            ensure_topics(self._bootstrap, [self._topic])
            self._publisher = Publisher(self._bootstrap)
        for alert in alerts:
            self._publisher.send(self._topic, alert.transaction_id.encode(), message(alert), _headers(alert))
        self._publisher.flush()

    def close(self) -> None:
        """Close the connections; the relay may be used again."""
        publisher, self._publisher = self._publisher, None
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()
        if publisher is not None:
            publisher.close()

    def _abandon(self) -> None:
        """Drop the records that the producer still buffers: the next attempt sends all of them again."""
        publisher, self._publisher = self._publisher, None
        conn, self._conn = self._conn, None
        if publisher is not None:
            publisher.abandon()
        if conn is not None:
            conn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abandon()


def message(alert: Alert) -> bytes:
    """The alert as JSON, without the optional fields that the transaction does not have."""
    fields: dict[str, Any] = {
        "transaction_id": alert.transaction_id,
        "decision": alert.decision,
        "flag": Decision(alert.decision).flag,
        "score": alert.score,
        "is_fraud_predicted": alert.is_fraud_predicted,
        "model_version": alert.model_version,
        "policy_version": alert.policy_version,
        "prediction_time": _rfc3339(alert.prediction_time),
        "event_time": _rfc3339(alert.event_time),
        "contract": alert.contract,
    }
    known = {"amount": alert.amount, "card_id": alert.card_id, "merchant_id": alert.merchant_id}
    present = {name: value for name, value in known.items() if value is not None}
    return json.dumps(fields | present, ensure_ascii=False, separators=(",", ":")).encode()


def _headers(alert: Alert) -> dict[str, bytes]:
    headers = {HEADER_SCHEMA: ALERT_SCHEMA.encode()}
    if alert.traceparent is not None:
        headers[HEADER_TRACEPARENT] = alert.traceparent.encode()
    return headers


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
