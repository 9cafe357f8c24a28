"""JSON in which no object names a member twice: of two values nobody can say which was meant."""

from __future__ import annotations

import json
from typing import Any


class RepeatedName(ValueError):
    """An object names a member twice."""


def loads(payload: bytes) -> Any:
    """Parse JSON; NaN and Infinity are read as such, for the fields' own checks to refuse.

    Raises:
        RepeatedName: an object names a member twice.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(payload, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise RepeatedName
    return content
