"""The lag of a topic behind its end, measured from the stored positions of all consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fraud_adapters.kafka import PartitionReader
from fraud_adapters.postgres.offsets import read_offsets

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

FETCH_SECONDS: Final = 2.0  # for the ends of all partitions


def unread_offsets(conn: Connection, reader: PartitionReader, topic: str) -> dict[int, int]:
    """Per partition the offset to read next: the stored position, or the oldest record if there is none."""
    with conn, conn.cursor() as cur:
        stored = {partition: at.next_offset for partition, at in read_offsets(cur, topic).items()}
    partitions = reader.partitions()
    earliest = {} if set(partitions) <= set(stored) else reader.earliest_offsets()
    return {p: stored[p] if p in stored else earliest.get(p, 0) for p in partitions}


def lag(conn: Connection, reader: PartitionReader, topic: str, seconds: float = FETCH_SECONDS) -> int | None:
    """Records between the stored positions and the ends; None if an end was not fetched within `seconds`."""
    offsets = unread_offsets(conn, reader, topic)
    ends = reader.ends(offsets, seconds)
    if set(ends) != set(offsets):
        return None
    return sum(max(0, ends[partition] - at) for partition, at in offsets.items())
