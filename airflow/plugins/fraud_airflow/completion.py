"""What the last task of a DAG writes down: one line a person can read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

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
        "%d transactions stored in %d batches (%d known already), lag %d; %d labels stored, lag %d; "
        "%d dead letters, %d alerts published.",
        result["stored"],
        result["batches"],
        result["replayed"],
        result["lag"],
        labels["stored"],
        labels["lag"],
        sum(result["dead_lettered"].values()) + sum(labels["dead_lettered"].values()),
        result["alerts_published"],
    )
    if result["latency_ms"]:
        log.info("From production to the database: %s.", _milliseconds(result["latency_ms"]))


def token(renewed: Mapping[str, str]) -> None:
    """Until when the token is good; never the token."""
    log.info(
        "The token of %s, signed by key %s, is good until %s.",
        renewed["client_id"],
        renewed["key_id"],
        renewed["expires_at"],
    )


def _milliseconds(latency: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {value:.0f} ms" for name, value in latency.items() if value is not None)
