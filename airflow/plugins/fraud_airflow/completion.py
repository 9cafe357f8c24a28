"""What the last task of a DAG writes down: one line a person can read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow.sdk import Variable

from fraud_airflow.alerting.state import variable_name

STALLED: Final = "00_realtime_streaming/stalled-holder"  # the incident's key

log = logging.getLogger(__name__)


def producer(result: Mapping[str, Any] | None) -> None:
    """How many transactions a run published, and how many labels were due."""
    if result is None:
        log.info("Nothing was produced.")
        return
    log.info(
        "%d transactions (%d fraudulent) and %d labels published to %s.",
        result["transactions"],
        result["frauds"],
        result["labels_sent"],
        result["topic"],
    )


def streaming(result: Mapping[str, Any] | None) -> None:
    """How many transactions a run stored and decided."""
    if result is None:
        log.info("Another consumer is at work: there was nothing to do.")
        return
    labels = result["labels"]
    log.info(
        "%d transactions stored in %d batches (%d known already), lag %s; %d labels stored, lag %s; "
        "%d dead letters, %d alerts published.",
        result["stored"],
        result["batches"],
        result["replayed"],
        _known(result["lag"]),
        labels["stored"],
        _known(labels["lag"]),
        sum(result["dead_lettered"].values()) + sum(labels["dead_lettered"].values()),
        result["alerts_published"],
    )
    if result["latency_ms"]:
        log.info("From production to the database: %s.", _milliseconds(result["latency_ms"]))
    try:
        _tell_of_stalled_holders(result["stalled_holders_ended"])
    except Exception:
        log.exception("What was found of other consumers could not be told.")


def _tell_of_stalled_holders(partitions: Sequence[str]) -> None:
    """A consumer that stood still is an incident; the next run without one ends it."""
    from fraud_airflow.alerting.alert import Alert, Severity
    from fraud_airflow.alerting.site import notifier

    if partitions:
        text = (
            f"It held {', '.join(partitions)} and its position did not move although records waited, so its "
            "database session was ended and this run went on. Nothing is lost or stored twice. Look for a "
            "frozen machine or a paused container: docs/metrics.md#streamstalled."
        )
        log.error("A consumer stood still. %s", text)
        notifier().alert(Alert(STALLED, "A consumer of the stream stood still", Severity.HIGH, text))
    elif Variable.get(variable_name(STALLED), default=None) is not None:
        notifier().resolve(STALLED)


def token(renewed: Mapping[str, str]) -> None:
    """Until when the token is good; never the token."""
    log.info(
        "The token of %s, signed by key %s, is good until %s.",
        renewed["client_id"],
        renewed["key_id"],
        renewed["expires_at"],
    )


def _known(lag: int | None) -> str:
    return "unknown" if lag is None else str(lag)


def _milliseconds(latency: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {value:.0f} ms" for name, value in latency.items() if value is not None)
