"""What is told: alerts, and the messages made of them."""

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


@dataclass(frozen=True, slots=True)
class Alert:
    """`key` says what is wrong: alerts of one key are one incident. `link` may be empty."""

    key: str
    title: str
    severity: Severity
    text: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel sends: `subject` one line, `text` as many as it likes."""

    subject: str
    text: str
    link: str = ""


def first(alert: Alert) -> Message:
    return _message(f"[{alert.severity}] {alert.title}", alert.text, alert.link)


def reminder(alert: Alert, since: datetime, count: int) -> Message:
    begun = f"It has happened {count} times since {_time(since)}. The latest:"
    return _message(f"[{alert.severity}] still: {alert.title}", f"{begun}\n{alert.text}", alert.link)


def resolved(title: str, since: datetime, until: datetime, count: int) -> Message:
    times = "once" if count == 1 else f"{count} times"
    text = (
        f"It had happened {times} within {duration(until - since)}: "
        f"first at {_time(since)}, and it worked again at {_time(until)}."
    )
    return _message(f"[resolved] {title}", text, "")


def duration(time: timedelta) -> str:
    """The two greatest units: `2 d 3 h`, `1 h 5 min`, `40 s`."""
    seconds = int(time.total_seconds())
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60))
    words = [f"{amount} {unit}" for unit, amount in units if amount][:2]
    return " ".join(words) or f"{seconds} s"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _message(subject: str, text: str, link: str) -> Message:
    # A line feed or another control character in a subject could begin a header of its own.
    line = " ".join("".join(char if char.isprintable() else " " for char in subject).split())
    return Message(_cut(line, TITLE_LIMIT), _cut(text.strip(), TEXT_LIMIT), link)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
