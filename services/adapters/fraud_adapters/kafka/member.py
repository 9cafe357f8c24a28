"""Reads as a member of a consumer group: the group assigns partitions, the caller provides the positions.

Positions are in the database, so nothing is read from a partition before `start`, and the group's own offsets
are never read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from fraud_adapters.kafka.consumer import TopicConsumer, one_line
from fraud_adapters.kafka.errors import RequestFailed
from fraud_adapters.kafka.rebalance import Callback, Partitions, Rebalance
from fraud_adapters.kafka.record import KEEP_BYTES, Record

# With the library's default of 45 s a dead member keeps its partitions that long, and a join on Tansu takes
# 23 s.
SESSION_TIMEOUT_MS: Final = 6_000
HEARTBEAT_MS: Final = 1_000
MAX_POLL_INTERVAL_MS: Final = 30_000
# After this time a broker that hangs without closing its connections is detected.
REQUEST_TIMEOUT_MS: Final = 10_000
CONNECT_TIMEOUT_MS: Final = 5_000
# With the library's default of 30 s a partition would stay unread that long after the broker is back.
RECONNECT_MAX_MS: Final = 1_000
COMMIT_MS: Final = 1_500
LOOK_UP_MS: Final = 3_000
# A join takes about 3 s on Tansu. After this time `close` does not wait for it; the session then expires.
JOIN_TO_LEAVE_S: Final = 4.5


class GroupMember(TopicConsumer):
    """Reads raw records of one topic as a member of a consumer group.

    The group assigns partitions; each is read only after `start` has set its position. Use it from one
    thread. The callbacks run in that thread, inside `poll` and `close`, while heartbeats continue; they may
    call the other methods of this object. An exception of a callback is raised by `poll`, and all partitions
    are then stopped.

    Args:
        on_assigned: receives the partitions that are newly assigned, none of them started.
        on_revoked: receives the partitions that are no longer read. They stay assigned to this member until
            it
            returns, unless the session has expired: then another member may have them already. After any
            change in the group all partitions are revoked and the current ones are assigned again.
        session_timeout_ms: after this time without a heartbeat the group reassigns the partitions.
        max_poll_interval_ms: after this time without `poll` the member leaves the group.
        keep_bytes: how much of a record's value is kept.

    Raises:
        BrokerUnavailable: no broker answered.
    """

    def __init__(
        self,
        bootstrap: str | Sequence[str],
        topic: str,
        group: str,
        client_id: str,
        *,
        on_assigned: Callback,
        on_revoked: Callback,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        heartbeat_interval_ms: int = HEARTBEAT_MS,
        max_poll_interval_ms: int = MAX_POLL_INTERVAL_MS,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        super().__init__(
            bootstrap,
            topic,
            client_id,
            keep_bytes=keep_bytes,
            group_id=group,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=heartbeat_interval_ms,
            max_poll_interval_ms=max_poll_interval_ms,
            partition_assignment_strategy=[RangePartitionAssignor],
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            reconnect_backoff_max_ms=RECONNECT_MAX_MS,
        )
        self._group = group
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._assigned: Partitions = frozenset()
        self._paused = False
        self._failure: BaseException | None = None
        self._rebalance = Rebalance(self._consumer, self._assign, self._revoke)
        self._consumer.subscribe([topic], listener=self._rebalance)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Take part in the group, and return up to `max_records` records of the started partitions.

        Waits at most `timeout_s` for the first record, not counting callbacks. While the broker is down it
        returns nothing; the member rejoins once the broker is back.

        Raises:
            ReadError: a started offset is no longer, or not yet, in the log.
            PositionUnreadable: the data at a position cannot be read and cannot be skipped safely.
        """
        deadline = time.monotonic() + timeout_s
        records: list[Record] = []
        if self._join_finished(timeout_s):
            records = self._poll(max_records, max(0, int((deadline - time.monotonic()) * 1000)))
        self._raise_failure()
        return records

    def start(self, offsets: Mapping[int, int]) -> None:
        """Read these assigned partitions, each from the offset given.

        Raises:
            ValueError: a partition is not assigned.
        """
        if unassigned := set(offsets) - self._assigned:
            raise ValueError(f"The partitions {sorted(unassigned)} of {self._topic} are not assigned.")
        for partition, offset in offsets.items():
            at = self._at(partition)
            self._internals.forget(at)
            self._consumer.seek(at, offset)
            self._positions[partition] = offset
            if not self._paused:
                self._consumer.resume(at)

    def stop(self, partitions: Iterable[int]) -> None:
        """Stop reading these partitions; they stay assigned."""
        for partition in self._assigned & set(partitions):
            self._consumer.pause(self._at(partition))
            self._positions.pop(partition, None)

    def pause(self) -> None:
        """Apply backpressure: `poll` fetches and returns nothing, but keeps the membership."""
        self._paused = True
        self._consumer.pause(*map(self._at, self._positions))

    def resume(self) -> None:
        """Continue fetching all started partitions."""
        self._paused = False
        self._consumer.resume(*map(self._at, self._positions))

    @property
    def settled(self) -> bool:
        """Whether the latest join is finished: `assigned` is then complete."""
        return self._rebalance.settled

    def assigned(self) -> Partitions:
        """The partitions the group has given to this member."""
        return self._assigned

    def earliest_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """Per partition the oldest offset still in the log: where to start when none is stored.

        Raises:
            ReadError: the broker does not answer the request.
        """
        return self._earliest(partitions, LOOK_UP_MS)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets to the group, for Kafka's own lag tools.

        Raises:
            KafkaFailure: the request was refused, as during a rebalance, or not answered in time.
        """
        values = {self._at(p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
        try:
            self._consumer.commit(values, timeout_ms=COMMIT_MS)
        except KafkaError as error:
            raise RequestFailed(
                f"The group {self._group}'s position in {self._topic} was not written: {one_line(error)}."
            ) from error

    def close(self) -> None:
        """Leave the group, within a few seconds even when the broker does not answer.

        `on_revoked` is called for what is still assigned.
        """
        self._revoke(self._assigned)
        self._rebalance.end(JOIN_TO_LEAVE_S)
        super().close()
        self._raise_failure()

    def _join_finished(self, timeout_s: float) -> bool:
        try:
            return self._rebalance.continue_join(timeout_s)
        except KafkaError as error:
            raise self._read_error(error) from error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _assign(self, partitions: Partitions) -> None:
        self._positions.clear()
        self._assigned = partitions
        for at in map(self._at, partitions):
            self._consumer.pause(at)
            # Without a position the library would read the group's offset, and fail if there is none.
            self._consumer.seek(at, 0)
        if partitions:
            self._call_back(self._on_assigned, partitions)

    def _revoke(self, partitions: Partitions) -> None:
        self.stop(partitions)
        self._assigned -= partitions
        if partitions:
            self._call_back(self._on_revoked, partitions)

    def _call_back(self, callback: Callback, partitions: Partitions) -> None:
        try:
            callback(partitions)
        except BaseException as failure:
            self.stop(self._assigned)
            self._failure = failure
