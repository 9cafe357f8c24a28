"""What a follower holds while everything works: connections, locks, positions, and the pipeline.

It is thrown away at the first failure. Locks lie on a connection of their own, because the other one is
in a transaction whenever a chunk is being stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from select import select
from typing import Any, Final

from fraud_adapters.api_client import ApiClient
from fraud_adapters.kafka import Record, topic_ids
from fraud_adapters.postgres.dead_letters import recent_share
from fraud_adapters.postgres.offsets import unlock_partition
from fraud_streaming.consume.chunk import Positions
from fraud_streaming.consume.claim import claim
from fraud_streaming.consume.commit import Committer
from fraud_streaming.consume.flood import WINDOW, FloodGuard
from fraud_streaming.consume.pipeline import Pipeline
from fraud_streaming.dead_letters.topic import DeadLetterTopic
from fraud_streaming.installation import SERVICE, Feed, Installation

CLOSE_SECONDS: Final = 2.0  # for the step at work; a server that never answers is not waited for


class LaneSession:
    """Everything that one topic's records need after they are read.

    Args:
        pause: waits so many seconds, or less when the lane is to stop.

    Raises:
        Exception: as `failures` has it: something is down, or refuses.
    """

    def __init__(self, installation: Installation, feed: Feed, pause: Callable[[float], Any]) -> None:
        self._feed = feed
        self._ended = True  # no step is at work that would be in the way of closing
        servers = installation.kafka.bootstrap_servers
        with ExitStack() as opened:
            conn = installation.connect(SERVICE)
            opened.callback(self._close_store, conn)
            self._locks = opened.enter_context(closing(installation.connect(f"{SERVICE}-locks")))
            self._locks.autocommit = True
            api = opened.enter_context(ApiClient(installation.api, pause=pause))
            if feed.asks_api:
                api.check()
            self._topic_id = topic_ids(servers, [feed.topic])[feed.topic]
            letters = opened.enter_context(DeadLetterTopic(servers, installation.kafka.dlq_topic))
            self._guard = FloodGuard(installation.streaming.max_bad_share)
            work = feed.work(api)
            committer = Committer(
                conn=conn,
                topic=feed.topic,
                topic_id=self._topic_id,
                work=work,
                dead_letters=letters,
                guard=self._guard,
            )
            self.pipeline = Pipeline(work, committer)
            self._opened = opened.pop_all()
        self._positions = Positions({})
        self.held: set[int] = set()

    def claim(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """Lock what is free of the partitions; the stored position of each that is now held.

        Raises:
            TopicChanged: a stored position belongs to another topic of this name.
        """
        claimed = claim(self._locks, self._feed.topic, self._topic_id, sorted(partitions))
        if claimed is None:
            return {}
        self._positions.add(claimed.positions)
        self.held |= claimed.positions.keys()
        with self._locks.cursor() as cur:
            self._guard.seed(*recent_share(cur, self._feed.topic, self._topic_id, claimed.positions, WINDOW))
        return claimed.positions

    def check_locks(self) -> None:
        """Notice that the session with the locks was ended, without waiting for a server that is silent.

        Raises:
            psycopg2.OperationalError: it was; another consumer may hold the partitions.
        """
        # A server that has nothing to answer only speaks when it ends the session.
        if select([self._locks], [], [], 0)[0]:
            with self._locks.cursor() as cur:
                cur.execute("SELECT 1")

    def release(self, partitions: Iterable[int]) -> None:
        """Unlock partitions of which nothing is in flight."""
        for partition in self.held & set(partitions):
            unlock_partition(self._locks, self._feed.topic, partition)
            self.held.remove(partition)

    def submit(self, records: Sequence[Record], reached: Mapping[int, int]) -> None:
        """Hand records to the pipeline; `reached` is per partition the offset that comes after them."""
        self.pipeline.submit(self._positions.chunk(records, reached))

    def submit_gaps(self, reached: Mapping[int, int]) -> None:
        """Move positions past offsets that hold no record, where reading has gone on past them."""
        if self._positions.behind(reached):
            self.submit([], reached)

    def close(self) -> None:
        """Give everything up, at once; what is being stored either is or is not."""
        self._ended = self.pipeline.close(CLOSE_SECONDS)
        self._opened.close()

    def _close_store(self, conn: Any) -> None:
        if self._ended:
            conn.close()  # in use by a thread, it would wait for that thread
