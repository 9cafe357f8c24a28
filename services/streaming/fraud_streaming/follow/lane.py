"""Follows one topic as a member of the consumer group, from the positions in the database, until stopped.

All passing failures are handled alike: the session is discarded and, after a pause in which the member keeps
polling to stay in the group, partitions are locked and positions are read again. The consumer group only
assigns partitions; the database lock and the compare-and-set of the position decide who may commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Final

from fraud_adapters.job import PASSING, failure_of
from fraud_adapters.job.logs import get_logger
from fraud_adapters.kafka import KafkaFailure, PositionUnreadable
from fraud_adapters.kafka.member import GroupMember
from fraud_streaming.consume.claim import start_offsets
from fraud_streaming.consume.commit import Committed
from fraud_streaming.consume.pipeline import AHEAD
from fraud_streaming.consume.report import Report
from fraud_streaming.follow.lane_session import LaneSession
from fraud_streaming.follow.metrics import LaneMetrics
from fraud_streaming.installation import SERVICE, ConsumedTopic, Installation

POLL_SECONDS: Final = 0.2
RELOCK_SECONDS: Final = 0.3  # between two attempts to lock partitions that another consumer still holds
FINISH_SECONDS: Final = 8.0  # for the chunks in flight when partitions are revoked or the lane stops
RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # after the first, second, … failure in a row
STEP_SECONDS: Final = 30.0  # longer than any timeout of a step: after it the lane counts as stuck
SHOW_SECONDS: Final = 1.0  # between two commits of the group's offsets, which only Kafka's tools read


class Lane:
    """Follows one topic in the calling thread.

    Args:
        stop: set from outside when the lane is to end.
        on_commit: called after each commit, in the lane's thread.
    """

    def __init__(
        self,
        installation: Installation,
        consumed: ConsumedTopic,
        stop: Event,
        metrics: LaneMetrics,
        on_commit: Callable[[], None],
    ) -> None:
        self._installation = installation
        self._consumed = consumed
        self._stop = stop
        self._metrics = metrics
        self._on_commit = on_commit
        self._log = get_logger(__name__)
        self._session: LaneSession | None = None
        self._positions_to_show: dict[int, int] = {}
        self._failures = 0
        self._retry_at = self._relock_at = self._show_at = 0.0
        self._stepped_at = time.monotonic()
        self._waits_for: str | None = "its start"
        self._logged_wait: str | None = self._waits_for
        self._last_failure = "its start"
        self.contended: frozenset[int] = frozenset()  # assigned, and locked by another consumer
        self.report = Report()

    def waits_for(self) -> str | None:
        """The reason why the lane is not ready, in a few words; None while it is ready.

        A member whose join is finished and that was assigned no partition is ready: other members have them.
        """
        silent = time.monotonic() - self._stepped_at
        return f"a step that has taken {silent:.0f} s" if silent > STEP_SECONDS else self._waits_for

    def run(self) -> None:
        """Follow until `stop` is set.

        Raises:
            Exception: a failure that a retry cannot resolve; committed chunks are kept.
        """
        while not self._stop.is_set():
            try:
                self._follow()
            except PositionUnreadable:
                raise  # a retry would read the same data
            except KafkaFailure as error:
                self._discard_session(error)
                self._stop.wait(max(0.0, self._retry_at - time.monotonic()))

    def _follow(self) -> None:
        member = GroupMember(
            self._installation.kafka.bootstrap_servers,
            self._consumed.topic,
            self._consumed.group,
            SERVICE,
            on_assigned=lambda _partitions: None,
            on_revoked=self._on_revoked,
            keep_bytes=self._installation.keep_bytes,
        )
        try:
            while not self._stop.is_set():
                self._step(member)
                self._update_readiness(member)
            self._finish(member)
        except PositionUnreadable:
            self._finish(member)  # the records read before the failure are stored
            raise
        finally:
            self._close()
            member.close()

    def _step(self, member: GroupMember) -> None:
        try:
            self._maintain_session(member)
        except PASSING as error:
            self._discard_session(error)
            member.stop(member.assigned())
        session = self._session
        if session is not None and not session.pipeline.wait(AHEAD, POLL_SECONDS):
            # Backpressure: fetching pauses, but polling continues, which keeps the membership.
            self._metrics.paused.inc()
            member.pause()
            member.poll(1, 0.0)
            return
        member.resume()
        records = member.poll(self._installation.streaming.follow_batch_size, POLL_SECONDS)
        # The poll may have revoked partitions and closed the session.
        if records and self._session is not None:
            self._session.submit(records, member.positions())

    def _update_readiness(self, member: GroupMember) -> None:
        self._stepped_at = time.monotonic()
        session = self._session
        self._metrics.joined.set(member.settled)
        missing = member.assigned() - session.held if session is not None else frozenset()
        self.contended &= missing
        if session is None:
            self._waits_for = self._last_failure
        elif not member.settled:
            self._waits_for = f"the consumer group {self._consumed.group}: its join is not finished"
        elif self.contended:
            self._waits_for = f"partitions {sorted(self.contended)}: another consumer has locked them"
        elif not missing:
            self._waits_for = None
        if self._waits_for != self._logged_wait:
            self._logged_wait = self._waits_for
            self._log.info(
                "waits" if self._logged_wait else "ready",
                topic=self._consumed.topic,
                waits_for=self._logged_wait,
            )

    def _maintain_session(self, member: GroupMember) -> None:
        now = time.monotonic()
        if self._session is None:
            if now < self._retry_at:
                return
            self._session = LaneSession(self._installation, self._consumed, self._stop.wait)
        self._session.check_locks()
        self._take_committed(self._session)
        self._session.pipeline.raise_failure()
        if now >= self._relock_at and (unclaimed := member.assigned() - self._session.held):
            self._relock_at = now + RELOCK_SECONDS
            self._claim(member, self._session, unclaimed)
        if now >= self._show_at:
            self._show_at = now + SHOW_SECONDS
            self._session.submit_gaps(member.positions())
            self._show_positions(member)

    def _claim(self, member: GroupMember, session: LaneSession, unclaimed: frozenset[int]) -> None:
        stored = session.claim(unclaimed)
        self.contended = unclaimed - stored.keys()
        if not stored:
            return
        starts = start_offsets(self._consumed.topic, stored, member.earliest_offsets(list(stored)))
        self._metrics.partitions.set(len(session.held))
        self._log.info("partitions_taken", topic=self._consumed.topic, positions=starts)
        member.start(starts)

    def _take_committed(self, session: LaneSession) -> None:
        for done in session.pipeline.finished():
            self._failures = 0
            self._positions_to_show.update(
                {partition: new for partition, (_, new) in done.chunk.moves.items()}
            )
            self._record_commit(done)

    def _record_commit(self, done: Committed) -> None:
        self.report.committed(done)
        self._metrics.committed(done)
        self._on_commit()

    def _show_positions(self, member: GroupMember) -> None:
        if not self._positions_to_show:
            return
        try:
            member.commit(self._positions_to_show)
        except KafkaFailure as error:
            self._log.warning("group_offsets_not_committed", topic=self._consumed.topic, error=str(error))
            self._show_at += 10 * SHOW_SECONDS
        self._positions_to_show = {}

    def _on_revoked(self, partitions: frozenset[int]) -> None:
        """Called inside `poll`: these partitions will be assigned to another member."""
        session = self._session
        if session is None:
            return
        try:
            if self._wait_in_flight(session):
                session.release(partitions)
            else:
                # The next holder reads either the old or the new position; both are consistent.
                self._close()
        except PASSING as error:
            self._discard_session(error)
        for partition in partitions:
            self._positions_to_show.pop(partition, None)
        self._metrics.partitions.set(0 if self._session is None else len(self._session.held))

    def _wait_in_flight(self, session: LaneSession) -> bool:
        """Wait for the chunks in flight; False if that takes too long."""
        done = session.pipeline.wait(1, FINISH_SECONDS)
        self._take_committed(session)
        session.pipeline.raise_failure()
        return done

    def _finish(self, member: GroupMember) -> None:
        if self._session is None:
            return
        try:
            if not self._wait_in_flight(self._session):
                self._log.warning("left_in_flight", topic=self._consumed.topic)
        except PASSING as error:
            self._log.warning("left_in_flight", topic=self._consumed.topic, error=str(failure_of(error)))
        self._show_positions(member)

    def _discard_session(self, error: BaseException) -> None:
        delay = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self._retry_at = time.monotonic() + delay
        self._last_failure = str(failure_of(error))
        self._waits_for = self._last_failure
        self._metrics.failed(error)
        self._log.warning(
            "reading_again", topic=self._consumed.topic, error=str(failure_of(error)), retry_in_seconds=delay
        )
        self._close()

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
        self._metrics.partitions.set(0)
