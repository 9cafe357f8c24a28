"""The stream's positions in Postgres, moved in the transaction that stores the records."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fraud_adapters.job.failures import PassingFailure

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


class OffsetMoved(PassingFailure):
    """Another consumer moved the offset since it was read: this transaction must be rolled back."""


@dataclass(frozen=True, slots=True)
class StoredOffset:
    """The next offset, and the id of its topic: another id means another topic of the same name."""

    topic_id: str
    next_offset: int


def lock_partition(conn: Connection, topic: str, partition: int) -> bool:
    """Take the partition's lock for as long as the connection lives; False if another session holds it.

    Commits and rollbacks do not release it. Must be called outside a transaction.
    """
    with conn.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s)", (lock_key(topic, partition),))
        taken: bool = cur.fetchone() == (True,)
    _end_read(conn)
    return taken


def unlock_partition(conn: Connection, topic: str, partition: int) -> None:
    """Release the partition's lock; must be called outside a transaction."""
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_unlock(%s)", (lock_key(topic, partition),))
    _end_read(conn)


def read_offset(cur: Cursor, topic: str, partition: int) -> StoredOffset | None:
    """The stored position, or None if the partition was never read."""
    cur.execute(
        "SELECT topic_id, next_offset FROM stream_offsets WHERE topic = %s AND partition = %s",
        (topic, partition),
    )
    row = cur.fetchone()
    return None if row is None else StoredOffset(*row)


def read_offsets(cur: Cursor, topic: str) -> dict[int, StoredOffset]:
    """The position of every partition that was ever read."""
    cur.execute("SELECT partition, topic_id, next_offset FROM stream_offsets WHERE topic = %s", (topic,))
    return {partition: StoredOffset(*position) for partition, *position in cur.fetchall()}


def idle_seconds(cur: Cursor, topic: str) -> float | None:
    """How long ago a position of the topic moved; None if none ever did."""
    cur.execute(
        "SELECT extract(epoch FROM clock_timestamp() - max(updated_at))::float8 FROM stream_offsets"
        " WHERE topic = %s",
        (topic,),
    )
    row = cur.fetchone()
    return None if row is None or row[0] is None else max(0.0, float(row[0]))


def move_offset(  # noqa: PLR0917
    cur: Cursor, topic: str, partition: int, topic_id: str, expected: int | None, new: int
) -> None:
    """Compare and set the position: from `expected` (None if there is none yet) to `new`, for this topic id.

    Raises:
        OffsetMoved: the stored position is not `expected`, or belongs to another topic id.
        ValueError: `new` lies before `expected`.
    """
    if expected is not None and new < expected:
        raise ValueError(f"the offset would move back from {expected} to {new}")
    values = {
        "topic": topic,
        "partition": partition,
        "topic_id": topic_id,
        "expected": expected,
        "new": new,
    }
    cur.execute(_FIRST if expected is None else _MOVE, values)
    if cur.rowcount != 1:
        raise OffsetMoved(
            f"The position of {topic}/{partition} is no longer {expected}: another consumer moved it."
        )


_FIRST = """
    INSERT INTO stream_offsets (topic, partition, topic_id, next_offset)
    VALUES (%(topic)s, %(partition)s, %(topic_id)s, %(new)s) ON CONFLICT DO NOTHING
"""
_MOVE = """
    UPDATE stream_offsets SET next_offset = %(new)s, updated_at = clock_timestamp()
    WHERE topic = %(topic)s AND partition = %(partition)s AND topic_id = %(topic_id)s
      AND next_offset = %(expected)s
"""


def lock_key(topic: str, partition: int) -> int:
    """The key of the partition's advisory lock."""
    digest = hashlib.sha256(f"stream/{topic}/{partition}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _end_read(conn: Connection) -> None:
    # The lock belongs to the session, so the transaction of the query must not stay open.
    if not conn.autocommit:
        conn.rollback()
