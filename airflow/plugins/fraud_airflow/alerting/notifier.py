"""Decides which messages are sent: the first of an incident, reminders, and its resolution."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from airflow.sdk.log import redact  # type: ignore[attr-defined]

from fraud_airflow.alerting.alert import Alert, Message, first_message, reminder_message, resolved_message
from fraud_airflow.alerting.incidents import Incident, Incidents

# A channel that is down delays a task until its timeout; this must not happen in each run of a frequent DAG.
RETRY_AFTER: Final = timedelta(minutes=5)
QUIET: Final = timedelta(minutes=10)  # after a message, before a resolved incident is reported again
_log = logging.getLogger(__name__)


class ChannelFailed(Exception):
    """A channel did not accept a message; one sentence without secrets."""


class Channel(Protocol):
    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> None:
        """Raises ChannelFailed."""


class Notifier:
    """Sends messages about incidents over all channels.

    Args:
        channels: called only when a message is to be sent.
        repeat_after: the time between a message of an incident and its reminder.
        clock: the current time in UTC.
    """

    def __init__(
        self,
        channels: Callable[[], Sequence[Channel]],
        incidents: Incidents,
        *,
        repeat_after: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._channels = channels
        self._incidents = incidents
        self._repeat_after = repeat_after
        self._quiet = min(QUIET, repeat_after)
        self._clock = clock

    def alert(self, alert: Alert) -> list[str]:
        """Report a problem; return the names of the channels that accepted the message, none if it was only
        counted."""
        now = self._clock()
        previous = self._incidents.read(alert.key) or Incident(alert.key, alert.title, since=now, count=0)
        incident = replace(previous, title=alert.title, count=previous.count + 1, worked_at=None)
        accepted_by: list[str] = []
        if self._due(incident, now):
            is_reminder = incident.sent_at is not None
            message = (
                reminder_message(alert, incident.since, incident.count)
                if is_reminder
                else first_message(alert)
            )
            accepted_by = self._send(self._channels(), message)
            incident = replace(incident, tried_at=now)
        if accepted_by:
            incident = replace(incident, sent_at=now, resolved=False)
        self._incidents.write(incident)
        return accepted_by

    def resolve(self, key: str) -> list[str]:
        """Report a success; return the names of the channels that accepted the message, none if no alert was
        sent.

        Called after each success; if no incident is open it costs one read.
        """
        incident = self._incidents.read(key)
        if incident is None:
            return []
        now = self._clock()
        if incident.sent_at is None or incident.resolved:
            self._close_if_quiet(incident, now)
            return []
        if incident.worked_at is None:
            incident = replace(incident, worked_at=now)
        elif incident.tried_at is not None and now - incident.tried_at < RETRY_AFTER:
            return []
        channels = self._channels()
        message = resolved_message(incident.title, incident.since, incident.worked_at or now, incident.count)
        accepted_by = self._send(channels, message) if channels else []
        if channels and not accepted_by:
            self._incidents.write(replace(incident, tried_at=now))
        elif not self._close_if_quiet(incident, now):
            self._incidents.write(replace(incident, resolved=True))
        return accepted_by

    def _due(self, incident: Incident, now: datetime) -> bool:
        if incident.tried_at is not None and now - incident.tried_at < min(RETRY_AFTER, self._repeat_after):
            return False
        wait = self._quiet if incident.resolved else self._repeat_after
        return incident.sent_at is None or now - incident.sent_at >= wait

    def _close_if_quiet(self, incident: Incident, now: datetime) -> bool:
        """Close the incident unless its last message is recent: a problem that recurs within minutes is one
        incident."""
        is_over = incident.sent_at is None or now - incident.sent_at >= self._quiet
        if is_over:
            self._incidents.delete(incident.key)
        return is_over

    def _send(self, channels: Sequence[Channel], message: Message) -> list[str]:
        if not channels:
            _log.warning(
                "No alert is sent about %r: set ALERT_EMAIL_RECIPIENTS and the connection fraud_smtp, or the "
                "connection fraud_slack.",
                message.subject,
            )
        # The text leaves the platform, so secrets are masked in it as in the log.
        safe = replace(message, subject=_redacted(message.subject), text=_redacted(message.text))
        accepted_by = [channel.name for channel in channels if _accepts(channel, safe)]
        if accepted_by:
            _log.info("Sent by %s: %s", " and ".join(accepted_by), safe.subject)
        return accepted_by


def _accepts(channel: Channel, message: Message) -> bool:
    try:
        channel.send(message)
    except ChannelFailed as error:
        _log.warning("Not sent by %s: %s", channel.name, error)
    except Exception as error:
        # Its text may hold an address or a password.
        _log.warning("Not sent by %s: %s", channel.name, type(error).__name__)
    else:
        return True
    return False


def _redacted(text: str) -> str:
    return str(redact(text))
