"""Decides which messages are sent: the first of an incident, reminders, and its resolution."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from airflow.sdk.log import redact  # type: ignore[attr-defined]

from fraud_airflow.alerting.alert import (
    TEXT_LIMIT,
    Alert,
    Message,
    Severity,
    first_message,
    reminder_message,
    resolved_message,
)
from fraud_airflow.alerting.incident import RETRY_AFTER, Incident
from fraud_airflow.alerting.incidents import Incidents

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
        is_quiet: whether messages of a severity wait at a moment.
    """

    def __init__(
        self,
        channels: Callable[[], Sequence[Channel]],
        incidents: Incidents,
        *,
        repeat_after: timedelta,
        clock: Callable[[], datetime],
        is_quiet: Callable[[Severity, datetime], bool] = lambda _severity, _now: False,
    ) -> None:
        self._channels = channels
        self._incidents = incidents
        self._repeat_after = repeat_after
        self._quiet = min(QUIET, repeat_after)
        self._clock = clock
        self._is_quiet = is_quiet

    def alert(self, alert: Alert) -> list[str]:
        """Report a problem; return the names of the channels that accepted the message, none if it was only
        counted, or waits for the end of the quiet hours."""
        now = self._clock()
        previous = self._incidents.read(alert.key)
        incident = previous or Incident(alert.key, alert.title, since=now, count=0, severity=alert.severity)
        incident = replace(
            incident,
            title=alert.title,
            severity=alert.severity,
            text=_redacted(alert.text)[:TEXT_LIMIT],
            link=alert.link,
            count=incident.count + 1,
            worked_at=None,
        )
        return self._notify(incident, now)

    def deliver(self, key: str) -> list[str]:
        """Send the message that waits, if one does: the quiet hours are over, or no channel had taken it."""
        incident, now = self._incidents.read(key), self._clock()
        if incident is None or not incident.is_waiting or not incident.may_be_tried(now):
            return []
        if incident.refused_by:
            return self._send_again(incident, now)
        return self._notify(incident, now) if incident.worked_at is None else self.resolve(key)

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
            if self._is_quiet(incident.severity, now):
                self._incidents.write(incident)
        elif not incident.may_be_tried(now):
            return []
        if self._is_quiet(incident.severity, now):
            return []
        channels = self._channels()
        message = resolved_message(incident.title, incident.since, incident.worked_at or now, incident.count)
        accepted_by, refused_by = self._send(channels, message) if channels else ([], ())
        if channels and not accepted_by:
            self._incidents.write(replace(incident, tried_at=now))
            return []
        told = replace(incident, resolved=True, tried_at=now, refused_by=refused_by)
        if not self._close_if_quiet(told, now):
            self._incidents.write(told)
        return accepted_by

    def _notify(self, incident: Incident, now: datetime) -> list[str]:
        accepted_by: list[str] = []
        refused_by: tuple[str, ...] = ()
        if self._due(incident, now) and not self._is_quiet(incident.severity, now):
            accepted_by, refused_by = self._send(self._channels(), _message(incident))
            incident = replace(incident, tried_at=now)
        if accepted_by:
            incident = replace(
                incident,
                sent_at=now,
                sent_severity=incident.severity,
                resolved=False,
                refused_by=refused_by,
            )
        self._incidents.write(incident)
        return accepted_by

    def _send_again(self, incident: Incident, now: datetime) -> list[str]:
        """Send the latest message over the channels that had refused it while others took it."""
        channels = [channel for channel in self._channels() if channel.name in incident.refused_by]
        message = _message(incident)
        if incident.resolved and incident.worked_at is not None:
            message = resolved_message(incident.title, incident.since, incident.worked_at, incident.count)
        accepted_by, refused_by = self._send(channels, message) if channels else ([], ())
        self._incidents.write(replace(incident, tried_at=now, refused_by=refused_by))
        return accepted_by

    def _due(self, incident: Incident, now: datetime) -> bool:
        if incident.sent_severity is not None and incident.severity.rank > incident.sent_severity.rank:
            return incident.may_be_tried(now)
        if incident.tried_at is not None and now - incident.tried_at < min(RETRY_AFTER, self._repeat_after):
            return False
        wait = self._quiet if incident.resolved else self._repeat_after
        return incident.sent_at is None or now - incident.sent_at >= wait

    def _close_if_quiet(self, incident: Incident, now: datetime) -> bool:
        """Close the incident unless its last message is recent: a problem that recurs within minutes is one
        incident."""
        since_sent = None if incident.sent_at is None else now - incident.sent_at
        is_over = since_sent is None or (since_sent >= self._quiet and not incident.refused_by)
        if is_over:
            worked_at = incident.worked_at or now
            self._incidents.write(replace(incident, worked_at=worked_at, closed_at=now))
        return is_over

    def _send(self, channels: Sequence[Channel], message: Message) -> tuple[list[str], tuple[str, ...]]:
        """The names of the channels that accepted the message, and of those that did not."""
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
        return accepted_by, tuple(channel.name for channel in channels if channel.name not in accepted_by)


def _message(incident: Incident) -> Message:
    alert = Alert(incident.key, incident.title, incident.severity, incident.text, incident.link)
    if incident.sent_at is None or incident.count == 1:
        return first_message(alert)
    return reminder_message(alert, incident.since, incident.count)


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
