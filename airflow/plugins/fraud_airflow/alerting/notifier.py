"""Decides what is sent: the first message of an incident, reminders, and that it works again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from airflow.sdk.log import redact  # type: ignore[attr-defined]

from fraud_airflow.alerting.alert import Alert, Message, first, reminder, resolved
from fraud_airflow.alerting.state import Incident, Incidents

# A channel that is down holds a task up until it times out: not each run of one that runs every few seconds.
RETRY_AFTER: Final = timedelta(minutes=5)
QUIET: Final = timedelta(minutes=10)  # after a message, before what had been resolved is told again
_log = logging.getLogger(__name__)


class ChannelFailed(Exception):
    """A channel did not take a message; one sentence without secrets."""


class Channel(Protocol):
    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> None:
        """Raises ChannelFailed."""


class Notifier:
    """Tells about incidents over all channels.

    Args:
        channels: looked up only when something is to be sent.
        repeat_after: between a message of an incident and its reminder.
        clock: now, in UTC.
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
        """Something is wrong. Gives the names of the channels that took it; none if it was only counted."""
        now = self._clock()
        known = self._incidents.read(alert.key) or Incident(alert.key, alert.title, since=now, count=0)
        incident = replace(known, title=alert.title, count=known.count + 1, worked_at=None)
        took: list[str] = []
        if self._due(incident, now):
            again = incident.sent_at is not None
            message = reminder(alert, incident.since, incident.count) if again else first(alert)
            took = self._send(self._channels(), message)
            incident = replace(incident, tried_at=now)
        if took:
            incident = replace(incident, sent_at=now, resolved=False)
        self._incidents.write(incident)
        return took

    def resolve(self, key: str) -> list[str]:
        """It works. Gives the names of the channels that took it; none if nobody had heard otherwise.

        Whoever works calls this each time: where no incident is open it costs one read.
        """
        incident = self._incidents.read(key)
        if incident is None:
            return []
        now = self._clock()
        if incident.sent_at is None or incident.resolved:
            self._forget(incident, now)
            return []
        if incident.worked_at is None:
            incident = replace(incident, worked_at=now)
        elif incident.tried_at is not None and now - incident.tried_at < RETRY_AFTER:
            return []
        channels = self._channels()
        message = resolved(incident.title, incident.since, incident.worked_at or now, incident.count)
        took = self._send(channels, message) if channels else []
        if channels and not took:
            self._incidents.write(replace(incident, tried_at=now))
        elif not self._forget(incident, now):
            self._incidents.write(replace(incident, resolved=True))
        return took

    def _due(self, incident: Incident, now: datetime) -> bool:
        if incident.tried_at is not None and now - incident.tried_at < min(RETRY_AFTER, self._repeat_after):
            return False
        wait = self._quiet if incident.resolved else self._repeat_after
        return incident.sent_at is None or now - incident.sent_at >= wait

    def _forget(self, incident: Incident, now: datetime) -> bool:
        """What comes and goes within minutes stays one incident: it is not told anew each time."""
        over = incident.sent_at is None or now - incident.sent_at >= self._quiet
        if over:
            self._incidents.delete(incident.key)
        return over

    def _send(self, channels: Sequence[Channel], message: Message) -> list[str]:
        if not channels:
            _log.warning(
                "Nobody is told of %r: set ALERT_EMAIL_RECIPIENTS and the connection fraud_smtp, or the "
                "connection fraud_slack.",
                message.subject,
            )
        # An error's text goes out of the house: what the log would hide is hidden there too.
        safe = replace(message, subject=_hidden(message.subject), text=_hidden(message.text))
        took = [channel.name for channel in channels if _took(channel, safe)]
        if took:
            _log.info("Sent by %s: %s", " and ".join(took), safe.subject)
        return took


def _took(channel: Channel, message: Message) -> bool:
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


def _hidden(text: str) -> str:
    return str(redact(text))
