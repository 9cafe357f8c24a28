"""Cursors of pages: the key of the last row of a page as text that only the service reads.

A cursor holds no state of the server. It names the query it came from, so that a page of one query is not
continued with the filters of another.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import orjson

MAX_LENGTH: Final = 200  # characters
_BIGINT: Final = 2**63


class InvalidCursor(ValueError):
    """A text that is not a cursor of this query; one sentence."""


def encode(key: tuple[int, ...], query: str) -> str:
    """The cursor after the row with this key, for the query with this description."""
    content = orjson.dumps([_digest(query), *key])
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def decode(cursor: str, query: str, width: int) -> tuple[int, ...]:
    """The key in a cursor, `width` integers that a bigint of Postgres holds.

    Raises:
        InvalidCursor: it is not a cursor, or belongs to a query with another description.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        digest, *key = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError):
        raise InvalidCursor("The cursor is not one that a page of this route has named.") from None
    if len(key) != width or not all(type(part) is int and -_BIGINT <= part < _BIGINT for part in key):
        raise InvalidCursor("The cursor is not one that a page of this route has named.")
    if digest != _digest(query):
        raise InvalidCursor(
            "The cursor belongs to a query with other filters: repeat those of its first page."
        )
    return tuple(key)


def _digest(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:12]
