"""The state of a lane between two failures: connections, locks, positions, and the pipeline.

It is discarded at the first failure. The locks have their own connection, because the other one is in a
transaction whenever a chunk is being stored.
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
from fraud_streaming.installation import SERVICE, ConsumedTopic, Installation

CLOSE_SECONDS: Final = 2.0  # for the current step; a server that never answers is not awaited


class LaneSession:
    """Everything that processes the records of one topic after they are read.

    Args:
        pause: sleeps for the given seconds, or less if the lane stops.

    Raises:
        JobFailed, psycopg2.Error: a server is down, or refuses.
    """

    def __init__(
        self, installation: Installation, consumed: ConsumedTopic, pause: Callable[[float], Any]
    ) -> None:
        self._consumed = consumed
        self._ended = True  # no step uses the connection, so that closing it does not block
        servers = installation.kafka.bootstrap_servers
        with ExitStack() as opened:
            conn = installation.connect(SERVICE)
            opened.callback(self._close_store, conn)
            self._locks = opened.enter_context(closing(installation.connect(f"{SERVICE}-locks")))
            self._locks.autocommit = True
            api = opened.enter_context(ApiClient(installation.api, pause=pause))
            if consumed.needs_api:
                api.check()
            self._topic_id = topic_ids(servers, [consumed.topic])[consumed.topic]
            dead_letter_topic = opened.enter_context(DeadLetterTopic(servers, installation.kafka.dlq_topic))
            self._guard = FloodGuard(installation.streaming.max_bad_share)
            processor = consumed.make_processor(api)
            committer = Committer(
                conn=conn,
                topic=consumed.topic,
                topic_id=self._topic_id,
                processor=processor,
                dead_letter_topic=dead_letter_topic,
                guard=self._guard,
            )
            self.pipeline = Pipeline(processor, committer)
            self._opened = opened.pop_all()
        self._positions = Positions({})
        self.held: set[int] = set()

    def claim(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """Lock those partitions that are free, and return their stored positions.

        Raises:
            TopicChanged: a stored position belongs to another topic of this name.
        """
        claimed = claim(self._locks, self._consumed.topic, self._topic_id, sorted(partitions))
        if claimed is None:
            return {}
        self._positions.add(claimed.positions)
        self.held |= claimed.positions.keys()
        with self._locks.cursor() as cur:
            self._guard.seed(
                *recent_share(cur, self._consumed.topic, self._topic_id, claimed.positions, WINDOW)
            )
        return claimed.positions

    def check_locks(self) -> None:
        """Detect, without waiting for the server, that the session with the locks was ended.

        Raises:
            psycopg2.OperationalError: the session was ended; another consumer may hold the partitions.
        """
        # Without a query in progress, the server sends data only when it ends the session.
        if select([self._locks], [], [], 0)[0]:
            with self._locks.cursor() as cur:
                cur.execute("SELECT 1")

    def release(self, partitions: Iterable[int]) -> None:
        """Unlock partitions that have no chunk in flight."""
        for partition in self.held & set(partitions):
            unlock_partition(self._locks, self._consumed.topic, partition)
            self.held.remove(partition)

    def submit(self, records: Sequence[Record], reached: Mapping[int, int]) -> None:
        """Hand records to the pipeline; `reached` is per partition the offset after the last one."""
        self.pipeline.submit(self._positions.chunk(records, reached))

    def submit_gaps(self, reached: Mapping[int, int]) -> None:
        """Move the positions past offsets that hold no record."""
        if self._positions.behind(reached):
            self.submit([], reached)

    def close(self) -> None:
        """Release everything at once; the chunk that is being stored may or may not be committed."""
        self._ended = self.pipeline.close(CLOSE_SECONDS)
        self._opened.close()

    def _close_store(self, conn: Any) -> None:
        if self._ended:
            conn.close()  # while a thread uses the connection, this would block
