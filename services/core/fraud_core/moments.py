"""Parses times from text and from the milliseconds in Kafka's records, always in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_moment(value: Any) -> datetime:
    """RFC 3339 text with a zone as an aware datetime in UTC.

    Raises:
        ValueError: it has another format, or lies outside the years 1 to 9999.
    """
    if type(value) is not str or _RFC3339.fullmatch(value) is None:
        raise ValueError("must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a valid time") from None


def moment_of_milliseconds(since_1970: int) -> datetime | None:
    """The moment this many milliseconds after the start of 1970; None if a datetime cannot hold it."""
    try:
        return _EPOCH + timedelta(milliseconds=since_1970)
    except OverflowError:
        return None
