"""Numbers as text: ASCII digits and a decimal point. Python's float also takes 1_000 and other scripts."""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def parse_number(text: str) -> float:
    """The double nearest to the text; infinite beyond the largest.

    Raises:
        ValueError: it is anything else, spaces around it included.
    """
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("is not a number")
    return float(text)
