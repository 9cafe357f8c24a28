"""Joining a consumer group, apart from the polls that ask for it.

kafka-python 3.0 makes a join part of `poll`. One that ends between two polls is thrown away and begun
again, or, when the topic's partitions had changed, never heard of again; a broker that takes seconds for
a join would keep a busy consumer out for long. And it runs callbacks in the thread that also sends the
heartbeats. So here a join goes on by itself, and callbacks run in the thread that polls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.future import Future

Partitions = frozenset[int]
Callback = Callable[[Partitions], None]


class Rebalance(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Takes the place of the consumer's own joining; one for each consumer.

    Args:
        assigned, revoked: called inside `join`; neither may raise.
    """

    def __init__(self, consumer: KafkaConsumer, assigned: Callback, revoked: Callback) -> None:
        self._coordinator = consumer._coordinator
        self._loop = consumer._net
        self._assigned = assigned
        self._revoked = revoked
        # What the I/O loop waits for; None is the end of a join.
        self._wanted: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._joining: Any = None
        self._over = False
        self._coordinator.ensure_active_group = self.join

    def join(self, timeout_ms: float) -> bool:
        """Go on joining, callbacks included, for at most so long; whether it is done.

        Raises:
            KafkaError: the group refuses this member.
        """
        if self._joining is None:
            self._joining = self._loop.call_soon_with_future(self._coordinator.ensure_active_group_async)
            self._joining.add_both(lambda _outcome: self._wanted.put(None))
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            try:
                wanted = self._wanted.get(timeout=max(0, deadline - time.monotonic()))
            except Empty:
                return False
            if wanted is None:
                return self._joined()
            wanted()

    def go_on(self, timeout_s: float) -> bool:
        """Whether no join that was begun is left over after so long.

        Raises:
            KafkaError: the group refuses this member.
        """
        return self._joining is None or self.join(timeout_s * 1000)

    def end(self) -> None:
        """From now on nothing is called back, and nothing waits for it."""
        self._over = True
        while not self._wanted.empty():
            if wanted := self._wanted.get():
                wanted()

    def _joined(self) -> bool:
        joining, self._joining = self._joining, None
        if joining.succeeded():
            return bool(joining.value)
        if isinstance(joining.exception, KafkaError) and joining.exception.retriable:
            return False
        raise joining.exception

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._called(self._assigned, assigned)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._called(self._revoked, revoked)

    async def _called(self, callback: Callback, places: Iterable[TopicPartition]) -> None:
        partitions = frozenset(at.partition for at in places)
        done = Future()

        def call() -> None:
            if not self._over:
                callback(partitions)
            self._loop.call_soon_threadsafe(lambda: done.success(None))

        if not self._over:
            self._wanted.put(call)
            await done
