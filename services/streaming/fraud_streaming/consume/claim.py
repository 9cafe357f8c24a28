"""Claims a topic's partitions: takes the lock, reads the position, and checks that the topic is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.kafka import PartitionReader
from fraud_adapters.postgres.offsets import StoredOffset, lock_partition, read_offset

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


class TopicChanged(LastingFailure):
    """The stored position belongs to another topic of this name; the sentence says what to do."""


class PositionLost(LastingFailure):
    """The log starts after the stored position; the sentence says what to do."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Partitions this run may read, locked until the connection closes.

    `positions` holds the stored position per partition, None where there is none yet.
    """

    topic_id: str
    positions: dict[int, int | None]


def claim(conn: Connection, topic: str, topic_id: str, partitions: Sequence[int]) -> Claim | None:
    """Lock those partitions that are free; None if other consumers hold all of them.

    Raises:
        TopicChanged: a stored position belongs to another topic of this name.
    """
    locked = [partition for partition in partitions if lock_partition(conn, topic, partition)]
    with conn, conn.cursor() as cur:
        stored = {partition: read_offset(cur, topic, partition) for partition in locked}
    for position in stored.values():
        if position is not None and position.topic_id != topic_id:
            raise _changed(topic, topic_id, position)
    positions = {partition: at.next_offset if at else None for partition, at in stored.items()}
    return Claim(topic_id, positions) if locked else None


def start_reading(reader: PartitionReader, topic: str, claimed: Claim) -> None:
    """Assign the partitions, each at its position, or at the oldest record if none is stored.

    Raises:
        PositionLost: as `start_offsets`.
    """
    reader.assign(start_offsets(topic, claimed.positions, reader.earliest_offsets()))


def start_offsets(
    topic: str, positions: Mapping[int, int | None], earliest: Mapping[int, int]
) -> dict[int, int]:
    """Per partition its position, or the oldest record if none is stored.

    Raises:
        PositionLost: the next record is no longer in the log. Tansu would silently skip to the oldest one.
    """
    for partition, at in positions.items():
        if at is not None and at < earliest.get(partition, 0):
            raise _lost(topic, partition, at, earliest[partition])
    return {p: earliest.get(p, 0) if at is None else at for p, at in positions.items()}


def _lost(topic: str, partition: int, position: int, oldest: int) -> PositionLost:
    return PositionLost(
        f"The topic {topic} no longer holds offset {position} of partition {partition}, which is to be read "
        f"next: its oldest record is {oldest}. Nothing was read: to skip the {oldest - position} records in "
        f"between, set next_offset to {oldest} in the table stream_offsets as the database's owner."
    )


def _changed(topic: str, topic_id: str, stored: StoredOffset) -> TopicChanged:
    return TopicChanged(
        f"The topic {topic} was deleted and created again (its id is {topic_id}, the stored position is of "
        f"{stored.topic_id}); nothing was read: to read it from its start, delete its rows from the table "
        "stream_offsets as the database's owner."
    )
