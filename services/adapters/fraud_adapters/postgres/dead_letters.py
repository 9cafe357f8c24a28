"""The table `dead_letters`: records that could not be processed, with their origin and the reason.

Consumers store them; they are selected by id, reason or age, and marked once they were put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg2.extras import execute_values

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be processed; `payload` is its beginning, `payload_bytes` its full size.

    `timestamp_ms` is the record's timestamp, `headers` are its headers that are kept, and `redriven_from` is
    the origin of the dead letter that was put back as this record.
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
        """Whether the whole record is kept, so that it can be put back unchanged."""
        return self.payload is not None and len(self.payload) == self.payload_bytes


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as it is in the table; `redriven_at` says when it was last put back."""

    id: int
    letter: DeadLetter
    created_at: datetime
    redriven_at: datetime | None

    @property
    def origin(self) -> str:
        return f"{self.letter.topic}/{self.letter.partition}/{self.letter.offset}"


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter for dead letters: all conditions that are not None must hold."""

    ids: Sequence[int] | None = None
    reason: str | None = None
    since: datetime | None = None
    not_redriven: bool = False

    def values(self) -> dict[str, Any]:
        return {
            "ids": None if self.ids is None else list(self.ids),
            "reason": self.reason,
            "since": self.since,
            "not_redriven": self.not_redriven,
        }


def store_dead_letters(cur: Cursor, dead_letters: Sequence[DeadLetter], topic_id: str) -> int:
    """Append dead letters, one for each topic, partition and offset; returns how many were new.

    Characters that Postgres cannot store are replaced.

    Args:
        topic_id: of the topic they came from; a topic that was created again reuses the offsets.
    """
    rows = [
        (
            *(letter.topic, topic_id, letter.partition, letter.offset, letter.key, letter.timestamp_ms),
            *(letter.payload, letter.payload_bytes, letter.reason, _storable(letter.detail)),
            _storable(letter.redriven_from),
        )
        for letter in dead_letters
    ]
    if not rows:
        return 0
    return len(execute_values(cur, _INSERT_DEAD_LETTERS, rows, page_size=len(rows), fetch=True))


def recent_share(
    cur: Cursor, topic: str, topic_id: str, positions: Mapping[int, int | None], window: int
) -> tuple[int, int]:
    """How many of the latest `window` offsets before each position there are, and how many are dead letters.

    Args:
        positions: per partition the next offset; None if nothing was read yet.
    """
    total = bad = 0
    for partition, position in positions.items():
        if position:
            cur.execute(_COUNT_RECENT, (topic, topic_id, partition, position - window, position))
            total += min(window, position)
            bad += (cur.fetchone() or (0,))[0]
    return total, bad


def count_by_reason(cur: Cursor, selection: Selection) -> dict[str, int]:
    """The number of dead letters by reason, the most frequent first."""
    cur.execute(_COUNT, selection.values())
    return dict(cur.fetchall())


def count_in_window(cur: Cursor, topic: str, start: datetime, end: datetime) -> dict[str, int]:
    """The dead letters of one topic that were stored in an interval, by reason, the most frequent first."""
    cur.execute(_COUNT_IN_WINDOW, (topic, start, end))
    return dict(cur.fetchall())


def dead_offsets(cur: Cursor, topic: str, topic_id: str, starts: Mapping[int, int]) -> set[tuple[int, int]]:
    """Partition and offset of each dead letter of a topic from these offsets on."""
    found: set[tuple[int, int]] = set()
    for partition, start in starts.items():
        cur.execute(_OFFSETS, (topic, topic_id, partition, start))
        found |= {(partition, offset) for (offset,) in cur.fetchall()}
    return found


def newest_dead_letters(cur: Cursor, selection: Selection, limit: int) -> list[StoredDeadLetter]:
    """At most `limit` dead letters, the newest first."""
    cur.execute(_NEWEST, selection.values() | {"limit": limit})
    return [_stored(row) for row in cur.fetchall()]


def dead_letters_between(
    cur: Cursor, selection: Selection, after: int, through: int, limit: int
) -> list[StoredDeadLetter]:
    """One page: at most `limit` dead letters with ids above `after` up to `through`, the oldest first."""
    cur.execute(_PAGE, selection.values() | {"after": after, "through": through, "limit": limit})
    return [_stored(row) for row in cur.fetchall()]


def newest_id(cur: Cursor) -> int:
    """The highest id, or 0 if there is no dead letter."""
    cur.execute("SELECT coalesce(max(id), 0) FROM dead_letters")
    row = cur.fetchone()
    return 0 if row is None else int(row[0])


def lock_dead_letters(cur: Cursor, ids: Sequence[int], *, again: bool) -> set[int]:
    """Lock the dead letters that were not put back yet, or with `again` all, until the transaction ends."""
    cur.execute(
        "SELECT id FROM dead_letters WHERE id = ANY (%s) AND (%s OR redriven_at IS NULL)"
        " ORDER BY id FOR UPDATE",
        (list(ids), again),
    )
    return {row[0] for row in cur.fetchall()}


def mark_redriven(cur: Cursor, ids: Sequence[int]) -> None:
    """Mark dead letters as put back now."""
    cur.execute("UPDATE dead_letters SET redriven_at = clock_timestamp() WHERE id = ANY (%s)", (list(ids),))


_INSERT_DEAD_LETTERS = """
    INSERT INTO dead_letters (topic, topic_id, partition, record_offset, record_key, record_timestamp_ms,
                              payload, payload_bytes, reason, detail, redriven_from)
    VALUES %s ON CONFLICT (topic, topic_id, partition, record_offset) DO NOTHING RETURNING id
"""
_COUNT_RECENT = """
    SELECT count(*) FROM dead_letters
    WHERE topic = %s AND topic_id = %s AND partition = %s AND record_offset >= %s AND record_offset < %s
"""
_COUNT_IN_WINDOW = """
    SELECT reason, count(*) FROM dead_letters WHERE topic = %s AND created_at >= %s AND created_at < %s
    GROUP BY 1 ORDER BY 2 DESC, 1
"""
_OFFSETS = """
    SELECT record_offset FROM dead_letters
    WHERE topic = %s AND topic_id = %s AND partition = %s AND record_offset >= %s
"""
_SELECTED = """
    (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s::bigint[]))
    AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)
    AND NOT (%(not_redriven)s AND redriven_at IS NOT NULL)
"""
_COLUMNS = """
    id, created_at, redriven_at, topic, partition, record_offset, record_key, payload, payload_bytes,
    reason, detail, record_timestamp_ms, redriven_from
"""
_COUNT = f"SELECT reason, count(*) FROM dead_letters WHERE {_SELECTED} GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608
_NEWEST = f"SELECT {_COLUMNS} FROM dead_letters WHERE {_SELECTED} ORDER BY id DESC LIMIT %(limit)s"  # noqa: S608
_PAGE = f"""
    SELECT {_COLUMNS} FROM dead_letters
    WHERE {_SELECTED} AND id > %(after)s AND id <= %(through)s ORDER BY id LIMIT %(limit)s
"""  # noqa: S608


def _stored(row: tuple[Any, ...]) -> StoredDeadLetter:
    identifier, created_at, redriven_at, topic, partition, offset, key, payload, *others = row
    payload_bytes, reason, detail, timestamp_ms, redriven_from = others
    letter = DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        key=_bytes(key),
        payload=_bytes(payload),
        payload_bytes=payload_bytes,
        reason=reason,
        detail=detail,
        timestamp_ms=timestamp_ms,
        redriven_from=redriven_from,
    )
    return StoredDeadLetter(identifier, letter, created_at, redriven_at)


def _bytes(value: memoryview | None) -> bytes | None:
    return None if value is None else bytes(value)


def _storable(text: str | None) -> str | None:
    if text is None:
        return None
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
