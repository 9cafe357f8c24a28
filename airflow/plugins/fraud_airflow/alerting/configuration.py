"""Builds the notifier from this installation's settings."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from config.constants import CONNECTION_SLACK, ENV_VARS
from fraud_airflow.alerting.incidents import Incidents, VariableIncidents
from fraud_airflow.alerting.mail import EmailChannel
from fraud_airflow.alerting.notifier import Channel, Notifier
from fraud_airflow.alerting.quiet import QuietHours, quiet_hours
from fraud_airflow.alerting.slack import SlackChannel

_REPEAT_MINUTES = 60.0


def notifier(incidents: Incidents | None = None) -> Notifier:
    """The notifier; incidents are stored in Variables as a task sees them, unless another store is given."""
    return Notifier(
        channels,
        incidents or VariableIncidents(),
        repeat_after=repeat_after(ENV_VARS["ALERT_REPEAT_MINUTES"]),
        clock=lambda: datetime.now(UTC),
        is_quiet=quiet(ENV_VARS["ALERT_QUIET_HOURS"], ENV_VARS["ALERT_TIMEZONE"]).apply,
    )


def channels() -> list[Channel]:
    """E-mail if recipients are set, Slack if its connection exists."""
    configured: list[Channel] = []
    if addresses := ENV_VARS["ALERT_EMAIL_RECIPIENTS"].strip():
        configured.append(EmailChannel(addresses))
    try:
        webhook = BaseHook.get_connection(CONNECTION_SLACK).password
    except AirflowNotFoundException:
        webhook = None
    if webhook:
        configured.append(SlackChannel(webhook))
    return configured


def repeat_after(minutes: str) -> timedelta:
    """ALERT_REPEAT_MINUTES; an invalid value must not prevent alerts, so the default is used instead."""
    try:
        number = float(minutes)
        if not 1 <= number <= 7 * 24 * 60:
            raise ValueError
    except ValueError:
        logging.getLogger(__name__).warning(
            "ALERT_REPEAT_MINUTES: %r is not a number of minutes from 1 to 10080; 60 is used.", minutes
        )
        number = _REPEAT_MINUTES
    return timedelta(minutes=number)


def quiet(hours: str, zone: str) -> QuietHours:
    """The quiet hours; an invalid value must not prevent alerts, so there are none then."""
    try:
        return quiet_hours(hours, zone)
    except ValueError as error:
        logging.getLogger(__name__).warning("%s No hours are quiet.", error)
        return quiet_hours("", "UTC")
