"""Joins a consumer group independently of `poll`, and leaves it safely.

In kafka-python 3.0 a join is part of `poll`. A join that completes between two polls is discarded and
restarted, or lost if the topic's partitions have changed; with a broker that takes seconds for a join, a busy
consumer would stay outside the group for long. The library also runs callbacks in the thread that sends
heartbeats. Here a join continues in the background, and callbacks run in the thread that polls.

Leaving needs care too. Tansu removes a member that leaves while the group forms, but keeps it as the group's
leader: all members that join later wait forever for its assignment. Such a member does not send LeaveGroup;
its session expires, which every broker handles.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.future import Future

Partitions = frozenset[int]
Callback = Callable[[Partitions], None]

log = logging.getLogger(__name__)

LEAVE_MS: Final = 1_000  # for the broker to answer whether the group is stable


class Rebalance(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Replaces the consumer's own join; one instance for each consumer.

    Args:
        assigned, revoked: called inside `join`; neither may raise.
    """

    def __init__(self, consumer: KafkaConsumer, assigned: Callback, revoked: Callback) -> None:
        self._coordinator = consumer._coordinator
        self._loop = consumer._net
        self._assigned = assigned
        self._revoked = revoked
        # Callbacks that the I/O loop waits for; None marks the end of a join.
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._joining: Any = None
        self._closing = False
        self._coordinator.ensure_active_group = self.join
        self._leave_group = self._coordinator.maybe_leave_group_async
        self._coordinator.maybe_leave_group_async = self._leave

    @property
    def settled(self) -> bool:
        """Whether the group has answered this member's latest join, with partitions or without."""
        return self._joining is None and bool(self._coordinator.stable())

    def join(self, timeout_ms: float) -> bool:
        """Continue the join, including callbacks, for at most `timeout_ms`; True once it is finished.

        Raises:
            KafkaError: the group refuses this member.
        """
        if self._joining is None:
            self._joining = self._loop.call_soon_with_future(self._coordinator.ensure_active_group_async)
            self._joining.add_both(lambda _outcome: self._calls.put(None))
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            try:
                call = self._calls.get(timeout=max(0, deadline - time.monotonic()))
            except Empty:
                return False
            if call is None:
                return self._joined()
            call()

    def continue_join(self, timeout_s: float) -> bool:
        """Continue a join in progress for at most `timeout_s`; True if none is in progress any more.

        Raises:
            KafkaError: the group refuses this member.
        """
        return self._joining is None or self.join(timeout_s * 1000)

    def end(self, timeout_s: float) -> None:
        """Disable the callbacks, and wait at most `timeout_s` for a join: only members can leave."""
        self._closing = True
        try:
            self.continue_join(timeout_s)
        except KafkaError:
            return  # refused: there is nothing to leave

    async def _leave(self, reason: str | None = None, timeout_ms: float | None = None) -> None:
        if not await self._may_leave():
            log.info(
                "The group %s is not settled: this member's session expires.", self._coordinator.group_id
            )
            self._coordinator.reset_generation()
        await self._leave_group(reason, timeout_ms)

    async def _may_leave(self) -> bool:
        """Whether the group is stable and knows this member."""
        if not self._coordinator.stable():
            return False
        manager = self._coordinator._manager
        try:
            await manager.wait_for(manager.call_soon(self._coordinator._send_heartbeat_request), LEAVE_MS)
        except KafkaError:
            return False
        return True

    def _joined(self) -> bool:
        joining, self._joining = self._joining, None
        if joining.succeeded():
            return bool(joining.value)
        if isinstance(joining.exception, KafkaError) and joining.exception.retriable:
            return False
        raise joining.exception

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._run_in_polling_thread(self._assigned, assigned)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._run_in_polling_thread(self._revoked, revoked)

    async def _run_in_polling_thread(
        self, callback: Callback, topic_partitions: Iterable[TopicPartition]
    ) -> None:
        partitions = frozenset(at.partition for at in topic_partitions)
        done = Future()

        def call() -> None:
            if not self._closing:
                callback(partitions)
            self._loop.call_soon_threadsafe(lambda: done.success(None))

        if not self._closing:
            self._calls.put(call)
            await done
