"""Joining a consumer group, apart from the polls that ask for it.

kafka-python 3.0 makes a join part of `poll`. One that ends between two polls is thrown away and begun
again, or, when the topic's partitions had changed, never heard of again; a broker that takes seconds for
a join would keep a busy consumer out for long. And it runs callbacks in the thread that also sends the
heartbeats. So here a join goes on by itself, and callbacks run in the thread that polls.

Leaving is apart, too. Tansu forgets a member that leaves while the group forms, but not that it was the
group's leader: everybody who joins after it then waits for the assignment of a leader that is gone, for
ever. Such a member sends no LeaveGroup: its session expires, which every broker handles.
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

LEAVE_MS: Final = 1_000  # for the broker to say whether the group is settled


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
        self._leave_group = self._coordinator.maybe_leave_group_async
        self._coordinator.maybe_leave_group_async = self._leave

    @property
    def settled(self) -> bool:
        """Whether the group has answered this member's latest join, with partitions or without."""
        return self._joining is None and bool(self._coordinator.stable())

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

    def end(self, timeout_s: float) -> None:
        """From now on nothing is called back. Waits so long for a join that was begun: only a member that
        the group knows can leave it.
        """
        self._over = True
        try:
            self.go_on(timeout_s)
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
        """Whether the group knows this member and is not forming."""
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
