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
    log.info("%s", "; ".join(f"{name}: {_said(part)}" for name, part in result.items()))


def token(renewed: Mapping[str, str]) -> None:
    """Until when the token is good; never the token."""
    log.info(
        "The token of %s, signed by key %s, is good until %s.",
        renewed["client_id"],
        renewed["key_id"],
        renewed["expires_at"],
    )


def _said(part: object) -> str:
    if isinstance(part, Mapping):
        return ", ".join(f"{key} {value}" for key, value in part.items() if not isinstance(value, Mapping))
    return str(part)
