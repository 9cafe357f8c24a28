"""The log messages of the last task of a DAG."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from config.job_results.producer import GenerateResult
from config.job_results.streaming import RunResult
from fraud_airflow import summaries

STALLED: Final = "00_realtime_streaming/stalled-holder"  # the incident's key

log = logging.getLogger(__name__)


def producer(result: GenerateResult | None) -> None:
    """Log how many transactions a run published, and how many labels were due."""
    if result is None:
        log.info("Nothing was produced.")
        return
    _log(summaries.producer(result))


def streaming(result: RunResult | None) -> None:
    """Log how many transactions a run stored and decided."""
    if result is None:
        log.info("Another consumer is at work: there was nothing to do.")
        return
    _log(summaries.streaming(result))
    try:
        _alert_stalled_holders(result["stalled_holders_ended"])
    except Exception:
        log.exception("The alert about stalled consumers could not be sent.")


def _alert_stalled_holders(partitions: Sequence[str]) -> None:
    """A stalled consumer opens an incident; the next run without one resolves it."""
    from fraud_airflow.alerting.alert import Alert, Severity
    from fraud_airflow.alerting.configuration import notifier

    if partitions:
        text = (
            f"It held {', '.join(partitions)} and its position did not move although records waited, so its "
            "database session was ended and this run went on. Nothing is lost or stored twice. Look for a "
            "frozen machine or a paused container: docs/runbooks/StreamStalled.md."
        )
        log.error("A consumer stood still. %s", text)
        notifier().alert(Alert(STALLED, "A consumer of the stream stood still", Severity.HIGH, text))
    else:
        notifier().resolve(STALLED)


def token(renewed: Mapping[str, str]) -> None:
    """Log until when the token is valid, but never the token."""
    log.info(
        "The token of %s, signed by key %s, is good until %s.",
        renewed["client_id"],
        renewed["key_id"],
        renewed["expires_at"],
    )


def _log(lines: Sequence[str]) -> None:
    for line in lines:
        log.info("%s", line)
