"""Watches all partitions, including those of other consumers: measures the lag and ends stalled holders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from fraud_adapters.job import PASSING, failure_of
from fraud_adapters.job.logs import get_logger
from fraud_adapters.kafka import PartitionReader
from fraud_streaming.consume.backlog import FETCH_SECONDS, unread_offsets
from fraud_streaming.consume.stalled_holders import check_holders
from fraud_streaming.follow.lane import Lane
from fraud_streaming.follow.metrics import LaneMetrics
from fraud_streaming.installation import SERVICE, Installation

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

LOOK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class WatchedTopic:
    """A topic, the lane that follows it, and its metrics."""

    topic: str
    lane: Lane
    metrics: LaneMetrics


class Watch(Thread):
    """A thread with its own connections. It retries passing failures.

    An unexpected error is logged and ends the thread; `/health/live` then fails.
    """

    def __init__(self, installation: Installation, watched: Sequence[WatchedTopic], stop: Event) -> None:
        super().__init__(name="watch", daemon=True)
        self._installation = installation
        self._watched = watched
        # Not named `_stop`, which is a method of Thread.
        self._ending = stop

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                try:
                    self._work()
                except PASSING as error:
                    get_logger(__name__).warning("watch_tries_again", error=str(failure_of(error)))
                    self._ending.wait(LOOK_SECONDS)
        except Exception:
            get_logger(__name__).error("watch_failed", exc_info=True)

    def _work(self) -> None:
        servers = self._installation.kafka.bootstrap_servers
        with ExitStack() as opened:
            conn = opened.enter_context(closing(self._installation.connect(f"{SERVICE}-watch")))
            readers = [
                opened.enter_context(PartitionReader(servers, watched.topic, client_id=f"{SERVICE}-watch"))
                for watched in self._watched
            ]
            while not self._ending.is_set():
                for watched, reader in zip(self._watched, readers, strict=True):
                    self._look(conn, reader, watched)
                self._ending.wait(LOOK_SECONDS)

    def _look(self, conn: Connection, reader: PartitionReader, watched: WatchedTopic) -> None:
        offsets = unread_offsets(conn, reader, watched.topic)
        ends = reader.ends(offsets, FETCH_SECONDS)
        watched.metrics.set_positions(offsets, ends)
        if contended := watched.lane.contended:
            patience = self._installation.streaming.stalled_after_seconds
            contended_offsets = {
                partition: offsets[partition] for partition in contended if partition in offsets
            }
            holders = check_holders(conn, reader, watched.topic, contended_offsets, patience)
            watched.metrics.holders_ended.inc(sum(holder.ended for holder in holders))
