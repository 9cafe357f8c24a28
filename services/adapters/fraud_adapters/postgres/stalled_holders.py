"""Detects sessions that hold a partition's lock without making progress, and ends them.

A frozen process keeps its connections and therefore its locks. A consumer that finds a lock taken although a
record waits stores the holder and the position. If a later check finds both unchanged, the holder has stalled
for the time in between. Ending a session of one's own role needs no further privilege and loses nothing,
because positions move only by compare-and-set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fraud_adapters.postgres.offsets import lock_key

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# If ending a holder did not help, the cause is elsewhere (a locked table, for example): each further holder
# of the same position gets twice the time, up to this factor.
MAX_PATIENCE: Final = 64
END_MS: Final = 5_000  # for the session to be gone, and with it its locks


@dataclass(frozen=True, slots=True)
class StalledHolder:
    """The session that holds a partition's lock, and how long its position is known to be unchanged."""

    partition: int
    pid: int
    session: str  # as the server's activity view names it
    stalled_seconds: float
    patience_seconds: float
    ended: bool


def check_holder(conn: Connection, topic: str, partition: int, patience_s: float) -> StalledHolder | None:
    """Record that another session holds the partition's lock although a record waits.

    The session is ended once it has stalled for `patience_s`. Must be called outside a transaction, and only
    if a record can be read at the stored position.

    Returns:
        The holder; None if no session of this role holds the lock.
    """
    with conn, conn.cursor() as cur:
        cur.execute(
            _RECORD_SIGHTING, {"topic": topic, "partition": partition, "key": lock_key(topic, partition)}
        )
        row = cur.fetchone()
        if row is None:
            return None
        pid, since, session, stalled, ended_before = row
        patience = patience_s * min(2**ended_before, MAX_PATIENCE)
        ended = stalled >= patience
        if ended:
            cur.execute(
                _END_SESSION,
                {"topic": topic, "partition": partition, "pid": pid, "since": since, "ms": END_MS},
            )
    return StalledHolder(partition, pid, session, float(stalled), patience, ended)


# The position is the same: the record that waited at the first sighting is still unread.
_RECORD_SIGHTING = """
    INSERT INTO stream_stalls AS s (topic, partition, next_offset, holder_pid, holder_since)
    SELECT %(topic)s, %(partition)s,
        (SELECT next_offset FROM stream_offsets WHERE topic = %(topic)s AND partition = %(partition)s),
        a.pid, a.backend_start
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (l.classid::bigint << 32 | l.objid::bigint) = %(key)s
      AND a.usename = current_user AND a.pid <> pg_backend_pid()
    ON CONFLICT (topic, partition) DO UPDATE SET
        next_offset = excluded.next_offset,
        holder_pid = excluded.holder_pid,
        holder_since = excluded.holder_since,
        ended = CASE WHEN s.next_offset IS NOT DISTINCT FROM excluded.next_offset THEN s.ended ELSE 0 END,
        seen_at = CASE
            WHEN (s.next_offset, s.holder_pid, s.holder_since)
                IS NOT DISTINCT FROM (excluded.next_offset, excluded.holder_pid, excluded.holder_since)
            THEN s.seen_at ELSE excluded.seen_at END
    RETURNING s.holder_pid, s.holder_since,
        (SELECT application_name FROM pg_stat_activity WHERE pid = s.holder_pid),
        extract(epoch FROM clock_timestamp() - s.seen_at), s.ended
"""
_END_SESSION = """
    UPDATE stream_stalls SET ended = ended + 1 WHERE topic = %(topic)s AND partition = %(partition)s
    RETURNING (
        SELECT pg_terminate_backend(pid, %(ms)s) FROM pg_stat_activity
        WHERE pid = %(pid)s AND backend_start = %(since)s
    )
"""
