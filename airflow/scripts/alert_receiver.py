"""Takes the messages of Alertmanager's webhook: stores its alerts, and notes its signs of life."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import psycopg2

PATH: Final = "/alerts"
WATCHDOG: Final = "Watchdog"  # the rule that always fires
_MAX_BYTES: Final = 1_000_000
_SEVERITIES: Final = {"medium", "high", "critical"}
StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Wsgi = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class AlertReceiver:
    """A WSGI application in front of another one, which answers everything but POST /alerts.

    Args:
        store: records rows as `record_alerts` takes them; raises psycopg2.Error.
        beat: called at each sign of life.
    """

    def __init__(
        self, other: Wsgi, store: Callable[[list[dict[str, Any]]], object], beat: Callable[[datetime], None]
    ) -> None:
        self._other, self._store, self._beat = other, store, beat

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH:
            return self._other(environ, start_response)
        status = self._take(environ)
        start_response(f"{status.value} {status.phrase}", [("Content-Length", "0")])
        return [b""]

    def _take(self, environ: dict[str, Any]) -> HTTPStatus:
        """Alertmanager repeats what is answered with 5xx, and drops what is answered with 4xx."""
        if environ["REQUEST_METHOD"] != "POST":
            return HTTPStatus.METHOD_NOT_ALLOWED
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            if not 0 < length <= _MAX_BYTES:
                return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            alerts = json.loads(environ["wsgi.input"].read(length))["alerts"]
            rows = [alert_row(alert) for alert in alerts if alert["labels"]["alertname"] != WATCHDOG]
        except (ValueError, KeyError, TypeError, AttributeError):
            return HTTPStatus.BAD_REQUEST
        try:
            if rows:
                self._store(rows)
        except psycopg2.Error:
            return HTTPStatus.SERVICE_UNAVAILABLE
        if len(rows) < len(alerts):
            self._beat(datetime.now(UTC))
        return HTTPStatus.OK


def alert_row(alert: dict[str, Any]) -> dict[str, Any]:
    """An alert of Alertmanager's webhook as `record_alerts` takes it.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    labels, annotations, began = (
        alert["labels"],
        alert["annotations"],
        datetime.fromisoformat(alert["startsAt"]),
    )
    identity = f"{alert['fingerprint']}@{began.isoformat()}"
    severity = labels.get("severity")
    ended = datetime.fromisoformat(alert["endsAt"]) if alert["status"] == "resolved" else None
    return {
        "dedupe_key": hashlib.sha256(identity.encode()).hexdigest(),
        "source": "prometheus",
        "severity": severity if severity in _SEVERITIES else "medium",
        "title": annotations.get("summary") or labels["alertname"],
        "raised_at": began,
        "sent_at": None,  # Alertmanager alone knows
        "resolved_at": ended,
        "occurrences": 1,
        "details": {
            "key": f"{labels['alertname']} {alert['fingerprint']}",
            "text": annotations.get("description", ""),
            "link": annotations.get("runbook", ""),
            "labels": labels,
        },
    }
