"""Alerts and the messages built from them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

TITLE_LIMIT: Final = 150  # characters
TEXT_LIMIT: Final = 3000


class Severity(StrEnum):
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """The larger, the more severe."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Alert:
    """`key` identifies the problem: alerts with the same key belong to one incident. `link` may be empty."""

    key: str
    title: str
    severity: Severity
    text: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send: `subject` is one line, `text` may have several."""

    subject: str
    text: str
    link: str = ""


def first_message(alert: Alert) -> Message:
    return _message(f"[{alert.severity}] {alert.title}", alert.text, alert.link)


def reminder_message(alert: Alert, since: datetime, count: int) -> Message:
    begun = f"It has happened {count} times since {_time(since)}. The latest:"
    return _message(f"[{alert.severity}] still: {alert.title}", f"{begun}\n{alert.text}", alert.link)


def resolved_message(title: str, since: datetime, until: datetime, count: int) -> Message:
    times = "once" if count == 1 else f"{count} times"
    text = (
        f"It had happened {times} within {duration(until - since)}: "
        f"first at {_time(since)}, and it worked again at {_time(until)}."
    )
    return _message(f"[resolved] {title}", text, "")


def duration(time: timedelta) -> str:
    """The two largest units: `2 d 3 h`, `1 h 5 min`, `40 s`."""
    seconds = int(time.total_seconds())
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60))
    parts = [f"{amount} {unit}" for unit, amount in units if amount][:2]
    return " ".join(parts) or f"{seconds} s"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _message(subject: str, text: str, link: str) -> Message:
    # A line feed or another control character in a subject could inject a mail header.
    line = " ".join("".join(char if char.isprintable() else " " for char in subject).split())
    return Message(_cut(line, TITLE_LIMIT), _cut(text.strip(), TEXT_LIMIT), link)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
