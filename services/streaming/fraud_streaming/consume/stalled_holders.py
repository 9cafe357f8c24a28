"""Partitions locked by another consumer: detects holders that make no progress, and ends their sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from fraud_adapters.job.logs import get_logger
from fraud_adapters.kafka import PartitionReader
from fraud_adapters.postgres.stalled_holders import StalledHolder, check_holder

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

READ_SECONDS: Final = 1.0  # for a record that waits to be read


def check_holders(
    conn: Connection, reader: PartitionReader, topic: str, offsets: Mapping[int, int], patience_s: float
) -> list[StalledHolder]:
    """The sessions that hold these partitions although a record waits at the given offset.

    A session that has made no progress for `patience_s` is ended, which releases its locks.
    """
    waiting = [p for p, offset in offsets.items() if reader.record_waits(p, offset, READ_SECONDS)]
    checked = [check_holder(conn, topic, partition, patience_s) for partition in waiting]
    holders = [holder for holder in checked if holder is not None]
    for holder in holders:
        _log(topic, holder)
    return holders


def describe_stall(topic: str, holder: StalledHolder) -> str:
    """One sentence about the holder, for the consumer that waits for it."""
    return (
        f"The position of {topic}/{holder.partition} has not moved for {holder.stalled_seconds:.0f} s "
        f"although records wait; after {holder.patience_seconds:.0f} s its holder loses its locks."
    )


def _log(topic: str, holder: StalledHolder) -> None:
    log = get_logger(__name__)
    (log.error if holder.ended else log.info)(
        "stalled_holder_ended" if holder.ended else "holder_stands_still",
        topic=topic,
        partition=holder.partition,
        session=holder.session,
        pid=holder.pid,
        stalled_seconds=round(holder.stalled_seconds, 1),
        patience_seconds=holder.patience_seconds,
    )
