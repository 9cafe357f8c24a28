"""Cursors come back as they were made, and any other text is refused in a sentence."""

from __future__ import annotations

import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_core.cursors import MAX_LENGTH, InvalidCursor, decode, encode

BIGINTS = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(BIGINTS, min_size=1, max_size=3), st.text())
def test_a_cursor_holds_its_key(key: list[int], query: str) -> None:
    cursor = encode(tuple(key), query)
    assert len(cursor) <= MAX_LENGTH
    assert cursor.isascii() and "=" not in cursor
    assert decode(cursor, query, len(key)) == tuple(key)
    with pytest.raises(InvalidCursor, match="other filters"):
        decode(cursor, f"{query} more", len(key))


@given(st.text() | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_other_text_is_a_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode(text, "query", 2)


@pytest.mark.parametrize(
    "content", [["x", 1], ["x", 1, 2, 3], ["x", 1, True], ["x", 1.0, 2], ["x", 1, 2**63], [], {}, 7]
)
def test_another_content_is_refused(content: object) -> None:
    text = base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")
    with pytest.raises(InvalidCursor, match="not one that a page"):
        decode(text, "query", 2)
