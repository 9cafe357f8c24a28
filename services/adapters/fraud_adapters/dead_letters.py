"""Dead letters: records that could not be processed, kept with their origin and the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg2.extras import execute_values

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be processed; `payload` is its beginning, `payload_bytes` its full size."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    payload: bytes | None
    payload_bytes: int
    reason: str
    detail: str | None = None


def store_dead_letters(cur: Cursor, letters: Sequence[DeadLetter]) -> int:
    """Append dead letters, one for each topic, partition and offset; gives how many were new.

    The text of `detail` may hold anything: what Postgres cannot store is replaced.
    """
    rows = [
        (
            *(letter.topic, letter.partition, letter.offset, letter.key, letter.payload),
            *(letter.payload_bytes, letter.reason, _storable(letter.detail)),
        )
        for letter in letters
    ]
    if not rows:
        return 0
    return len(execute_values(cur, _INSERT_DEAD_LETTERS, rows, page_size=len(rows), fetch=True))


def recent_share(
    cur: Cursor, topic: str, positions: Mapping[int, int | None], window: int
) -> tuple[int, int]:
    """Of the latest `window` offsets before each partition's position: how many, how many dead letters.

    Args:
        positions: per partition the offset to go on with; None where nothing was read yet.
    """
    total = bad = 0
    for partition, position in positions.items():
        if position:
            cur.execute(_COUNT_RECENT, (topic, partition, position - window, position))
            total += min(window, position)
            bad += (cur.fetchone() or (0,))[0]
    return total, bad


_INSERT_DEAD_LETTERS = """
    INSERT INTO dead_letters (topic, partition, record_offset, record_key, payload,
                              payload_bytes, reason, detail)
    VALUES %s ON CONFLICT (topic, partition, record_offset) DO NOTHING RETURNING id
"""
_COUNT_RECENT = """
    SELECT count(*) FROM dead_letters
    WHERE topic = %s AND partition = %s AND record_offset >= %s AND record_offset < %s
"""


def _storable(text: str | None) -> str | None:
    if text is None:
        return None
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
