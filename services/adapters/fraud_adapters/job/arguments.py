"""Types of command-line options: each parses a text, or raises the message that argparse shows."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from fraud_core.moments import parse_moment
from fraud_core.plain_numbers import parse_number, parse_whole_number

# Delays and days are added to and subtracted from times, so the range stays clear of the limits of datetime
# and numpy.
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
MAX_COUNT: Final = 100_000_000
_MOMENT: Final = "must be a time with a zone from 1970 to 2199, such as 2026-01-31T12:00:00Z"
_AGO: Final = re.compile(r"(\d{1,6})([mhd])", re.ASCII)
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            return parse_whole_number(text, low, high)
        except ValueError as error:
            raise ArgumentTypeError(f"{error}, not {_shown(text)}") from None

    return parse


def number(low: float, high: float, *, above: bool = False, below: bool = False) -> Callable[[str], float]:
    """A number from `low` to `high`; `above` and `below` exclude the bounds themselves."""
    bounds = f"{'above' if above else 'from'} {low:g} {'and below' if below else 'to'} {high:g}"

    def parse(text: str) -> float:
        value = _number_or_nan(text)
        # Written so that NaN is refused.
        if not (low <= value <= high) or (above and value == low) or (below and value == high):
            raise ArgumentTypeError(f"must be a number {bounds}, not {_shown(text)}")
        return value

    return parse


def moment(text: str) -> datetime:
    """A time with a zone (RFC 3339) in UTC."""
    try:
        parsed = parse_moment(text)
    except ValueError:
        raise ArgumentTypeError(f"{_MOMENT}, not {_shown(text)}") from None
    if not EARLIEST <= parsed < LATEST:
        raise ArgumentTypeError(f"{_MOMENT}, not {_shown(text)}")
    return parsed


def moment_or_ago(text: str) -> datetime:
    """A time, or a period before now such as 30m, 12h or 7d."""
    ago = _AGO.fullmatch(text)
    if ago is None:
        try:
            return moment(text)
        except ArgumentTypeError:
            raise ArgumentTypeError(
                f"{_MOMENT}, or a span before now, such as 30m, 12h or 7d, not {_shown(text)}"
            ) from None
    now = datetime.now(UTC)
    back = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    if back > now - EARLIEST:
        raise ArgumentTypeError(f"must not lie before 1970, as {text} ago does")
    return now - back


def span(text: str) -> float:
    """A period from 0.1s to a day, written with its unit, in seconds."""
    value = _number_or_nan(text[:-1])
    seconds = value * {"s": 1, "m": 60}.get(text[-1:], math.nan)
    if not 0.1 <= seconds <= 86_400:
        raise ArgumentTypeError(
            f"must be a span of seconds or minutes from 0.1s to a day, such as 5s or 2m, not {_shown(text)}"
        )
    return seconds


def printable(text: str) -> str:
    """A printable name of limited length."""
    if not text.isprintable() or not 1 <= len(text) <= 250:
        raise ArgumentTypeError(f"must be 1 to 250 characters that can be printed, not {_shown(text)}")
    return text


def file_to_read(text: str) -> Path:
    """An existing file."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"must be a file, and {_shown(text)} is a folder")
    if not text or not path.exists():
        raise ArgumentTypeError(f"must be a file that exists, not {_shown(text)}")
    return path


def file_to_write(text: str) -> Path:
    """A file in an existing folder; the file itself need not exist."""
    path = Path(text)
    if not text or path.is_dir():
        raise ArgumentTypeError(f"must be a file, and {_shown(text)} is a folder")
    if not path.parent.is_dir():
        raise ArgumentTypeError(f"must be in a folder that exists, not {_shown(text)}")
    return path


def _number_or_nan(text: str) -> float:
    try:
        return parse_number(text)
    except ValueError:
        return math.nan


def _shown(text: str) -> str:
    """The text on one line, with unprintable characters escaped."""
    short = text if len(text) <= 60 else f"{text[:60]}…"
    return repr(short) if short.isprintable() else ascii(short)
