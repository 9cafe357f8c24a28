"""Who holds a partition's lock without getting on, and the end of that holder's database session.

A process that is frozen keeps its connections, and with them its locks, for as long as it is frozen. So
whoever finds a lock taken while a record waits writes down the holder and the position. Found again after
a time, with neither changed, the holder has stood still for that long. Ending a session of one's own role
needs no further right, and loses nothing: a position only moves by compare-and-set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fraud_adapters.postgres.offsets import lock_key

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# Where ending a holder did not help, nobody can get on (a table is locked, say): each further holder of the
# same position has twice the time, up to this many times as much.
MAX_PATIENCE: Final = 64
END_MS: Final = 5_000  # for the session to be gone, and with it its locks


@dataclass(frozen=True, slots=True)
class StalledHolder:
    """The session that holds a partition's lock, and for how long its position is known not to have moved."""

    partition: int
    pid: int
    session: str  # as the server's activity view names it
    stalled_seconds: float
    patience_seconds: float
    ended: bool


def check_holder(conn: Connection, topic: str, partition: int, patience_s: float) -> StalledHolder | None:
    """Note that the partition's lock is held by another session although a record waits; end that session
    once it has stood still for `patience_s`. None if nobody holds the lock, or a session of another role.

    Must be called outside a transaction, and only where a record can be read at the stored position.
    """
    with conn, conn.cursor() as cur:
        cur.execute(_SEE, {"topic": topic, "partition": partition, "key": lock_key(topic, partition)})
        row = cur.fetchone()
        if row is None:
            return None
        pid, since, session, stalled, ended_before = row
        patience = patience_s * min(2**ended_before, MAX_PATIENCE)
        ended = stalled >= patience
        if ended:
            cur.execute(
                _END, {"topic": topic, "partition": partition, "pid": pid, "since": since, "ms": END_MS}
            )
    return StalledHolder(partition, pid, session, float(stalled), patience, ended)


# The position is the same: the record that waited at the first sighting is still unread.
_SEE = """
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
_END = """
    UPDATE stream_stalls SET ended = ended + 1 WHERE topic = %(topic)s AND partition = %(partition)s
    RETURNING (
        SELECT pg_terminate_backend(pid, %(ms)s) FROM pg_stat_activity
        WHERE pid = %(pid)s AND backend_start = %(since)s
    )
"""
