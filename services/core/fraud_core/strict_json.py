"""Parses JSON and rejects objects with a repeated member, because it is ambiguous which value is meant."""

from __future__ import annotations

import json
from typing import Any


class RepeatedName(ValueError):
    """An object has two members of the same name."""


def loads(payload: bytes) -> Any:
    """Parse JSON in UTF-8, with or without a byte order mark.

    NaN and Infinity are accepted here; the checks of the fields reject them.

    Raises:
        RepeatedName: an object has two members of the same name.
        ValueError: it is not JSON in UTF-8.
        RecursionError: it is nested too deeply.
    """
    # Decoded here because the parser guesses the encoding of bytes: it would accept UTF-16, UTF-32 and
    # surrogates.
    return json.loads(payload.decode("utf-8-sig"), object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise RepeatedName
    return content
