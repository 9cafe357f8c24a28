"""Dead letters: records that could not be processed, kept with their origin and the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg2.extras import execute_values

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be processed; `payload` is its beginning, `payload_bytes` its full size.

    `timestamp_ms` is the record's, since 1970; `headers` are those of it that are kept; `redriven_from` names
    the origin of the dead letter it was put back from.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    payload: bytes | None
    payload_bytes: int
    reason: str
    detail: str | None = None
    timestamp_ms: int | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    redriven_from: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all of the record is kept, so that it can be put back as it was."""
        return self.payload is not None and len(self.payload) == self.payload_bytes


def store_dead_letters(cur: Cursor, letters: Sequence[DeadLetter], topic_id: str) -> int:
    """Append dead letters, one for each topic, partition and offset; gives how many were new.

    The texts may hold anything: what Postgres cannot store is replaced.

    Args:
        topic_id: of the topic they came from; one made again under its name has the same offsets again.
    """
    rows = [
        (
            *(letter.topic, topic_id, letter.partition, letter.offset, letter.key, letter.timestamp_ms),
            *(letter.payload, letter.payload_bytes, letter.reason, _storable(letter.detail)),
            _storable(letter.redriven_from),
        )
        for letter in letters
    ]
    if not rows:
        return 0
    return len(execute_values(cur, _INSERT_DEAD_LETTERS, rows, page_size=len(rows), fetch=True))


def recent_share(
    cur: Cursor, topic: str, topic_id: str, positions: Mapping[int, int | None], window: int
) -> tuple[int, int]:
    """Of the latest `window` offsets before each partition's position: how many, how many dead letters.

    Args:
        positions: per partition the offset to go on with; None where nothing was read yet.
    """
    total = bad = 0
    for partition, position in positions.items():
        if position:
            cur.execute(_COUNT_RECENT, (topic, topic_id, partition, position - window, position))
            total += min(window, position)
            bad += (cur.fetchone() or (0,))[0]
    return total, bad


_INSERT_DEAD_LETTERS = """
    INSERT INTO dead_letters (topic, topic_id, partition, record_offset, record_key, record_timestamp_ms,
                              payload, payload_bytes, reason, detail, redriven_from)
    VALUES %s ON CONFLICT (topic, topic_id, partition, record_offset) DO NOTHING RETURNING id
"""
_COUNT_RECENT = """
    SELECT count(*) FROM dead_letters
    WHERE topic = %s AND topic_id = %s AND partition = %s AND record_offset >= %s AND record_offset < %s
"""


def _storable(text: str | None) -> str | None:
    if text is None:
        return None
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
