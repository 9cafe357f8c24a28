"""Quiet hours of alerts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fraud_airflow.alerting.alert import Severity
from fraud_airflow.alerting.quiet import quiet_hours

HOURS = quiet_hours("medium=20:00-08:00, high=12:30-13:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("severity", "moment", "quiet"),
    [
        ("medium", "2026-07-01T18:00", True),  # 20:00 in summer
        ("medium", "2026-12-01T18:59", False),  # 19:59 in winter
        ("medium", "2026-12-01T03:00", True),
        ("medium", "2026-12-01T07:00", False),
        ("high", "2026-12-01T11:30", True),
        ("high", "2026-12-01T12:00", False),
        ("critical", "2026-12-01T03:00", False),
    ],
)
def test_hours_are_those_of_the_clock_on_the_wall(severity: str, moment: str, quiet: bool) -> None:
    assert HOURS.apply(Severity(severity), datetime.fromisoformat(moment).replace(tzinfo=UTC)) is quiet


@pytest.mark.parametrize(
    ("text", "zone", "sentence"),
    [
        ("critical=20:00-08:00", "UTC", "critical alerts have no quiet hours"),
        ("medium=20-8", "UTC", "ALERT_QUIET_HOURS: 'medium=20-8' is not like"),
        ("medium=24:00-08:00", "UTC", "is not like"),
        ("low=20:00-08:00", "UTC", "is not like"),
        ("medium=08:00-08:00", "UTC", "begins and ends at the same time"),
        ("", "Mars/Olympus", "ALERT_TIMEZONE is Mars/Olympus"),
        ("", "../etc", "ALERT_TIMEZONE is ../etc"),
    ],
)
def test_what_is_invalid_is_named(text: str, zone: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        quiet_hours(text, zone)
