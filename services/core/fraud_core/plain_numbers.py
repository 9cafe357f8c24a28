"""Numbers as text: ASCII digits and a decimal point. Python also takes 1_000, spaces and other scripts."""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d{1,30}", re.ASCII)


def parse_whole_number(text: str, low: int, high: int) -> int:
    """Parse a whole number from `low` to `high`.

    Raises:
        ValueError: the text has another format, such as surrounding spaces, or is out of range.
    """
    if _WHOLE.fullmatch(text) is None or not low <= int(text) <= high:
        raise ValueError(f"must be a whole number from {low} to {high}")
    return int(text)


def parse_number(text: str) -> float:
    """The double nearest to the text; infinite beyond the largest.

    Raises:
        ValueError: the text has another format, such as surrounding spaces.
    """
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("is not a number")
    return float(text)
