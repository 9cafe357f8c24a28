"""One topic, followed: as a member of the group, from the positions in the database, until told to stop.

Whatever fails and may pass is met in one way: everything in memory is forgotten, and after a pause, in
which the member goes on polling so that it stays in the group, partitions are locked and positions read
again. Kafka's group only says who reads what; the lock and the compare-and-set say who may commit.
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
from fraud_streaming.installation import SERVICE, Feed, Installation

POLL_SECONDS: Final = 0.2
RELOCK_SECONDS: Final = 0.3  # between two tries for partitions somebody else still holds
FINISH_SECONDS: Final = 8.0  # for what is in flight when partitions are taken away or the lane stops
RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # after the first, second, … failure in a row
STEP_SECONDS: Final = 30.0  # longer than anything waited for: it is frozen, or a server keeps it waiting
SHOW_SECONDS: Final = 1.0  # between two commits of the group's position, which only Kafka's tools look at


class Lane:
    """Follows one topic in the calling thread.

    Args:
        stop: set from outside when the lane is to end.
        on_commit: called after each commit, in the lane's thread.
    """

    def __init__(
        self,
        installation: Installation,
        feed: Feed,
        stop: Event,
        metrics: LaneMetrics,
        on_commit: Callable[[], None],
    ) -> None:
        self._installation = installation
        self._feed = feed
        self._stop = stop
        self._metrics = metrics
        self._on_commit = on_commit
        self._log = get_logger(__name__)
        self._session: LaneSession | None = None
        self._to_show: dict[int, int] = {}
        self._failures = 0
        self._retry_at = self._relock_at = self._show_at = 0.0
        self._stepped_at = time.monotonic()
        self._waits_for: str | None = "its start"
        self._told: str | None = self._waits_for
        self._trouble = "its start"
        self.contended: frozenset[int] = frozenset()  # assigned, and locked by another consumer
        self.report = Report()

    def waits_for(self) -> str | None:
        """What keeps it from working, in a few words; None while it is ready.

        A member that the group has answered is ready with all that it was given, also where that is nothing:
        the partitions are then with another member.
        """
        silent = time.monotonic() - self._stepped_at
        return f"a step that has taken {silent:.0f} s" if silent > STEP_SECONDS else self._waits_for

    def run(self) -> None:
        """Follow until `stop` is set.

        Raises:
            Exception: a failure that does not pass by itself; what was committed before is kept.
        """
        while not self._stop.is_set():
            try:
                self._follow()
            except PositionUnreadable:
                raise  # reading again gives the same
            except KafkaFailure as error:
                self._forget(error)
                self._stop.wait(max(0.0, self._retry_at - time.monotonic()))

    def _follow(self) -> None:
        member = GroupMember(
            self._installation.kafka.bootstrap_servers,
            self._feed.topic,
            self._feed.group,
            SERVICE,
            on_assigned=lambda _partitions: None,
            on_revoked=self._revoked,
            keep_bytes=self._installation.keep_bytes,
        )
        try:
            while not self._stop.is_set():
                self._step(member)
                self._take_stock(member)
            self._finish(member)
        except PositionUnreadable:
            self._finish(member)  # what was read before it is stored
            raise
        finally:
            self._close()
            member.close()

    def _step(self, member: GroupMember) -> None:
        try:
            self._look_after(member)
        except PASSING as error:
            self._forget(error)
            member.stop(member.assigned())
        session = self._session
        if session is not None and not session.pipeline.wait(AHEAD, POLL_SECONDS):
            # Backpressure: nothing more is fetched, and polling goes on, which keeps the membership.
            self._metrics.paused.inc()
            member.pause()
            member.poll(1, 0.0)
            return
        member.resume()
        records = member.poll(self._installation.streaming.follow_batch_size, POLL_SECONDS)
        # The poll may have taken partitions away, and with them the session.
        if records and self._session is not None:
            self._session.submit(records, member.positions())

    def _take_stock(self, member: GroupMember) -> None:
        self._stepped_at = time.monotonic()
        session = self._session
        self._metrics.joined.set(member.settled)
        missing = member.assigned() - session.held if session is not None else frozenset()
        self.contended &= missing
        if session is None:
            self._waits_for = self._trouble
        elif not member.settled:
            self._waits_for = f"the consumer group {self._feed.group}: its join is not finished"
        elif self.contended:
            self._waits_for = f"partitions {sorted(self.contended)}: another consumer has locked them"
        elif not missing:
            self._waits_for = None
        if self._waits_for != self._told:
            self._told = self._waits_for
            self._log.info("waits" if self._told else "ready", topic=self._feed.topic, waits_for=self._told)

    def _look_after(self, member: GroupMember) -> None:
        now = time.monotonic()
        if self._session is None:
            if now < self._retry_at:
                return
            self._session = LaneSession(self._installation, self._feed, self._stop.wait)
        self._session.check_locks()
        self._take_committed(self._session)
        self._session.pipeline.raise_failure()
        if now >= self._relock_at and (waiting := member.assigned() - self._session.held):
            self._relock_at = now + RELOCK_SECONDS
            self._claim(member, self._session, waiting)
        if now >= self._show_at:
            self._show_at = now + SHOW_SECONDS
            self._session.submit_gaps(member.positions())
            self._show(member)

    def _claim(self, member: GroupMember, session: LaneSession, waiting: frozenset[int]) -> None:
        stored = session.claim(waiting)
        self.contended = waiting - stored.keys()
        if not stored:
            return
        starts = start_offsets(self._feed.topic, stored, member.earliest_offsets(list(stored)))
        self._metrics.partitions.set(len(session.held))
        self._log.info("partitions_taken", topic=self._feed.topic, positions=starts)
        member.start(starts)

    def _take_committed(self, session: LaneSession) -> None:
        for done in session.pipeline.finished():
            self._failures = 0
            self._to_show.update({partition: new for partition, (_, new) in done.chunk.moves.items()})
            self._count(done)

    def _count(self, done: Committed) -> None:
        self.report.committed(done)
        self._metrics.committed(done)
        self._on_commit()

    def _show(self, member: GroupMember) -> None:
        if not self._to_show:
            return
        try:
            member.commit(self._to_show)
        except KafkaFailure as error:
            self._log.warning("group_offsets_not_committed", topic=self._feed.topic, error=str(error))
            self._show_at += 10 * SHOW_SECONDS
        self._to_show = {}

    def _revoked(self, partitions: frozenset[int]) -> None:
        """Called while polling: another member gets these."""
        session = self._session
        if session is None:
            return
        try:
            if self._settled(session):
                session.release(partitions)
            else:
                # Whoever comes next finds either the old or the new position: both are right.
                self._close()
        except PASSING as error:
            self._forget(error)
        for partition in partitions:
            self._to_show.pop(partition, None)
        self._metrics.partitions.set(0 if self._session is None else len(self._session.held))

    def _settled(self, session: LaneSession) -> bool:
        """Wait for what is in flight; False if it failed or takes too long."""
        done = session.pipeline.wait(1, FINISH_SECONDS)
        self._take_committed(session)
        session.pipeline.raise_failure()
        return done

    def _finish(self, member: GroupMember) -> None:
        if self._session is None:
            return
        try:
            if not self._settled(self._session):
                self._log.warning("left_in_flight", topic=self._feed.topic)
        except PASSING as error:
            self._log.warning("left_in_flight", topic=self._feed.topic, error=str(failure_of(error)))
        self._show(member)

    def _forget(self, error: BaseException) -> None:
        delay = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self._retry_at = time.monotonic() + delay
        self._trouble = str(failure_of(error))
        self._waits_for = self._trouble
        self._metrics.failed(error)
        self._log.warning(
            "reading_again", topic=self._feed.topic, error=str(failure_of(error)), retry_in_seconds=delay
        )
        self._close()

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
        self._metrics.partitions.set(0)
