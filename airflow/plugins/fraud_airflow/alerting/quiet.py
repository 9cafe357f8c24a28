"""Quiet hours: when messages of a severity wait until morning. Critical ones never wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fraud_airflow.alerting.alert import Severity

_ENTRY: Final = re.compile(r"(\w+)=([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_EXAMPLE: Final = "medium=20:00-08:00,high=23:00-06:00"


@dataclass(frozen=True, slots=True)
class Hours:
    """From `begin` to `end`, by the clock on the wall; over midnight where `begin` is later."""

    begin: time
    end: time

    def include(self, clock: time) -> bool:
        if self.begin <= self.end:
            return self.begin <= clock < self.end
        return clock >= self.begin or clock < self.end


@dataclass(frozen=True, slots=True)
class QuietHours:
    """The hours of each severity that has some, in one time zone."""

    hours: Mapping[Severity, Hours]
    zone: ZoneInfo

    def apply(self, severity: Severity, moment: datetime) -> bool:
        """Whether messages of this severity wait at this moment."""
        hours = self.hours.get(severity)
        return hours is not None and hours.include(moment.astimezone(self.zone).time())


def quiet_hours(text: str, zone: str) -> QuietHours:
    """ALERT_QUIET_HOURS in the time zone ALERT_TIMEZONE; no quiet hours if the text is empty.

    Raises:
        ValueError: one of the two is invalid; one sentence that names it.
    """
    try:
        known = ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"ALERT_TIMEZONE is {zone}: set the name of a time zone, such as Europe/Berlin."
        ) from None
    return QuietHours(dict(map(_hours, filter(None, map(str.strip, text.split(","))))), known)


def _hours(entry: str) -> tuple[Severity, Hours]:
    match = _ENTRY.fullmatch(entry)
    if match is None or match[1] not in {Severity.MEDIUM, Severity.HIGH}:
        raise ValueError(
            f"ALERT_QUIET_HOURS: {entry!r} is not like {_EXAMPLE}; critical alerts have no quiet hours."
        )
    begin, end = time(int(match[2]), int(match[3])), time(int(match[4]), int(match[5]))
    if begin == end:
        raise ValueError(f"ALERT_QUIET_HOURS: {entry!r} begins and ends at the same time.")
    return Severity(match[1]), Hours(begin, end)
