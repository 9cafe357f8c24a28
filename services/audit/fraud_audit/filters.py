"""Filters and positions of lists, which live in the URL: a list can be sent to a colleague as its address."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fraud_adapters.postgres.decision_lists import DecisionFilter, Position
from fraud_audit.refusals import PageRefused

PAGE_ROWS: Final = 50
NAMES: Final = (
    "q",
    "from",
    "to",
    "min_amount",
    "max_amount",
    "min_score",
    "max_score",
    "decision",
    "version",
    "truth",
)
DECISIONS: Final = ("approve", "review", "block")
TRUTHS: Final = ("fraud", "legitimate", "unknown")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TEXT: Final = 64


def decision_filter(query: Mapping[str, str], zone: ZoneInfo) -> DecisionFilter:
    """The filter of a list's URL; days are those of the person's zone.

    Raises:
        PageRefused: a value is not what its field takes.
    """
    until = _day(query, "to", zone)
    return DecisionFilter(
        text=text(query, "q"),
        since=_day(query, "from", zone),
        until=None if until is None else _next_day(until, zone),
        min_amount=_number(query, "min_amount"),
        max_amount=_number(query, "max_amount"),
        min_score=_number(query, "min_score", highest=1.0),
        max_score=_number(query, "max_score", highest=1.0),
        decision=choice(query, "decision", DECISIONS),
        version=text(query, "version"),
        truth=choice(query, "truth", TRUTHS),
    )


def position(query: Mapping[str, str]) -> Position | None:
    """Where the page begins: `after=<microseconds>.<id>`.

    Raises:
        PageRefused: it is malformed.
    """
    pair = number_pair(query, "after")
    return None if pair is None else Position(from_micros(pair[0]), pair[1])


def position_text(at: Position) -> str:
    return f"{micros(at.time)}.{at.prediction_id}"


def number_pair(query: Mapping[str, str], name: str) -> tuple[int, int] | None:
    """Two whole numbers, separated by a point.

    Raises:
        PageRefused: it is something else.
    """
    value = query.get(name)
    if not value:
        return None
    first, point, second = value.partition(".")
    try:
        if not point or len(value) > 40:
            raise ValueError
        return int(first), int(second)
    except ValueError:
        raise PageRefused(
            400, f"{name}: this is not a position in the list; begin with its first page."
        ) from None


def micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=value)
    except OverflowError:
        raise PageRefused(400, "after: this is not a position in the list.") from None


def address(path: str, query: Mapping[str, str], **changes: str | None) -> str:
    """A URL with the same filters; None removes a parameter."""
    merged = {**query, **changes}
    kept = {name: value for name, value in merged.items() if value}
    return f"{path}?{urlencode(kept)}" if kept else path


def text(query: Mapping[str, str], name: str) -> str | None:
    """A text without spaces around it.

    Raises:
        PageRefused: it is too long.
    """
    value = query.get(name, "").strip()
    if len(value) > _MAX_TEXT or "\x00" in value:
        raise PageRefused(400, f"{name}: at most {_MAX_TEXT} characters.")
    return value or None


def choice(query: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    """One of the choices.

    Raises:
        PageRefused: it is another one.
    """
    value = query.get(name) or None
    if value is not None and value not in choices:
        raise PageRefused(400, f"{name}: must be one of {', '.join(choices)}.")
    return value


def _number(query: Mapping[str, str], name: str, highest: float = 1e13) -> float | None:
    value = query.get(name, "").strip()
    if not value:
        return None
    try:
        parsed = float(value.replace(",", "."))
    except ValueError:
        raise PageRefused(400, f"{name}: must be a number.") from None
    if not isfinite(parsed) or not 0 <= parsed <= highest:
        raise PageRefused(400, f"{name}: must be from 0 to {highest:g}.")
    return parsed


def _day(query: Mapping[str, str], name: str, zone: ZoneInfo) -> datetime | None:
    value = query.get(name, "").strip()
    if not value:
        return None
    try:
        return datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PageRefused(400, f"{name}: must be a day as 2026-01-31.") from None


def _next_day(day: datetime, zone: ZoneInfo) -> datetime:
    # In local time, because a day may have 23 or 25 hours.
    try:
        return (
            (day.astimezone(zone).replace(tzinfo=None) + timedelta(days=1))
            .replace(tzinfo=zone)
            .astimezone(UTC)
        )
    except OverflowError:
        raise PageRefused(400, "to: must be a day as 2026-01-31.") from None
