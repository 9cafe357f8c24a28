"""Finding dead letters again, and noting which were put back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fraud_adapters.kafka.dead_letters import DeadLetter

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class StoredLetter:
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
    """Which dead letters are meant: those to which everything applies that is not None."""

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


def count_by_reason(cur: Cursor, selection: Selection) -> dict[str, int]:
    """How many there are, the most frequent reason first."""
    cur.execute(_COUNT, selection.values())
    return dict(cur.fetchall())


def newest_letters(cur: Cursor, selection: Selection, limit: int) -> list[StoredLetter]:
    """At most `limit`, the newest first."""
    cur.execute(_NEWEST, selection.values() | {"limit": limit})
    return [_stored(row) for row in cur.fetchall()]


def letters_between(
    cur: Cursor, selection: Selection, after: int, through: int, limit: int
) -> list[StoredLetter]:
    """At most `limit` with ids above `after` up to `through`, the oldest first: a page of many."""
    cur.execute(_PAGE, selection.values() | {"after": after, "through": through, "limit": limit})
    return [_stored(row) for row in cur.fetchall()]


def newest_id(cur: Cursor) -> int:
    """The highest id there is, 0 where there is none."""
    cur.execute("SELECT coalesce(max(id), 0) FROM dead_letters")
    row = cur.fetchone()
    return 0 if row is None else int(row[0])


def lock_letters(cur: Cursor, ids: Sequence[int], *, again: bool) -> set[int]:
    """Lock those of `ids` that were not put back yet, or all with `again`, until the transaction ends."""
    cur.execute(
        "SELECT id FROM dead_letters WHERE id = ANY (%s) AND (%s OR redriven_at IS NULL)"
        " ORDER BY id FOR UPDATE",
        (list(ids), again),
    )
    return {row[0] for row in cur.fetchall()}


def mark_redriven(cur: Cursor, ids: Sequence[int]) -> None:
    """Note that they were put back now."""
    cur.execute("UPDATE dead_letters SET redriven_at = clock_timestamp() WHERE id = ANY (%s)", (list(ids),))


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


def _stored(row: tuple[Any, ...]) -> StoredLetter:
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
    return StoredLetter(identifier, letter, created_at, redriven_at)


def _bytes(value: memoryview | None) -> bytes | None:
    return None if value is None else bytes(value)
