"""The notifier as this installation is configured."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from config.constants import CONNECTION_SLACK, ENV_VARS
from fraud_airflow.alerting.mail import EmailChannel
from fraud_airflow.alerting.notifier import Channel, Notifier
from fraud_airflow.alerting.slack import SlackChannel
from fraud_airflow.alerting.state import Incidents, VariableIncidents

_REPEAT_MINUTES = 60.0


def notifier(incidents: Incidents | None = None) -> Notifier:
    """Of a task, unless another place is given where incidents are kept."""
    return Notifier(
        channels,
        incidents or VariableIncidents(),
        repeat_after=repeat_after(ENV_VARS["ALERT_REPEAT_MINUTES"]),
        clock=lambda: datetime.now(UTC),
    )


def channels() -> list[Channel]:
    """E-mail where there are recipients, Slack where there is its connection."""
    found: list[Channel] = []
    if addresses := ENV_VARS["ALERT_EMAIL_RECIPIENTS"].strip():
        found.append(EmailChannel(addresses))
    try:
        webhook = BaseHook.get_connection(CONNECTION_SLACK).password
    except AirflowNotFoundException:
        webhook = None
    if webhook:
        found.append(SlackChannel(webhook))
    return found


def repeat_after(minutes: str) -> timedelta:
    """ALERT_REPEAT_MINUTES; an alert is not lost because somebody wrote it wrongly."""
    try:
        number = float(minutes)
        if not 1 <= number <= 7 * 24 * 60:
            raise ValueError
    except ValueError:
        logging.getLogger(__name__).warning(
            "ALERT_REPEAT_MINUTES: %r is no number of minutes from 1 to 10080; 60 is taken.", minutes
        )
        number = _REPEAT_MINUTES
    return timedelta(minutes=number)
