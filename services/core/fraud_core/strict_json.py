"""JSON in which no object names a member twice: of two values nobody can say which was meant."""

from __future__ import annotations

import json
from typing import Any


class RepeatedName(ValueError):
    """An object names a member twice."""


def loads(payload: bytes) -> Any:
    """Parse JSON in UTF-8, with or without a byte order mark; NaN and Infinity are read as such, for the
    fields' own checks to refuse.

    Raises:
        RepeatedName: an object names a member twice.
        ValueError: it is not JSON in UTF-8.
        RecursionError: it is nested too deeply.
    """
    # Given bytes, the parser guesses the encoding: UTF-16 and UTF-32 would pass, and so would surrogates.
    return json.loads(payload.decode("utf-8-sig"), object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise RepeatedName
    return content
