"""A consumer that is at work when a fault happens, and what must be true afterwards."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from config.job_results import EXIT_DONE, EXIT_FAILED
from tests.faults.crew import BOUNDED, Consumer, Crew, Fate
from tests.faults.feed import Feed
from tests.faults.kill import drain
from tests.faults.oracle import judge, unread
from tests.support.streaming_installation import StreamingSite
from tests.support.waiting import eventually

BATCH = 20
RECORDS = 400
RECOVERY_SECONDS = 90  # generous: a loaded machine must not fail a test


@dataclass(frozen=True, slots=True)
class Consuming:
    """One kind of consumer at a site, a feed, and a point at which a fault finds it."""

    kind: str
    site: StreamingSite
    feed: Feed
    workers: Crew

    def start(self, fate: Fate | None = None) -> Consumer:
        options = ("--max-seconds", "120") if self.kind == BOUNDED else ()
        return self.workers.start(self.kind, self.site, *options, batch=BATCH, fate=fate)

    def start_and_halt(self, point: str, passage: int = 3) -> Consumer:
        """A consumer that has halted at a point of its work, and goes on with `go_on`."""
        consumer = self.start(Fate(point, passage, signal.SIGSTOP))
        consumer.halted()
        return consumer

    def through(self, point: str, fault: Callable[[], None], *, after: str = "") -> Consumer:
        """Let `fault` happen and pass while the consumer is halted at a point, then finish.

        Args:
            after: see `finish`.
        """
        consumer = self.start_and_halt(point)
        fault()
        consumer.go_on()
        self.finish(consumer, after)
        return consumer

    def suffers(self, consumer: Consumer, sentence: str) -> None:
        """It says so: a bounded run ends with exit code 1, a follower stays."""
        if self.kind == BOUNDED:
            assert consumer.wait() == EXIT_FAILED, consumer.last_words()
        assert eventually(lambda: sentence in consumer.last_words(), 60), consumer.last_words()
        assert self.kind == BOUNDED or not consumer.ended.is_set(), consumer.last_words()

    def finish(self, consumer: Consumer, after: str = "") -> None:
        """All is consumed, in the end, and as it must be. A follower must go on by itself.

        Args:
            after: what a bounded run may fail with, so that the next one goes on; without it none may fail.
        """
        if self.kind == BOUNDED:
            while (code := consumer.wait()) != EXIT_DONE:
                assert code == EXIT_FAILED and after and after in consumer.last_words(), consumer.last_words()
                consumer = self.start()
            drain(self.site, self.workers)
        else:
            assert eventually(lambda: consumer.ended.is_set() or self._done(), RECOVERY_SECONDS)
            assert consumer.stop() == EXIT_DONE and self._done(), consumer.last_words()
        self.judge()

    def _done(self) -> bool:
        return not unread(self.site) and not self.site.count("alert_outbox")

    def judge(self) -> None:
        findings = judge(self.site, self.feed)
        assert not findings, "\n".join(map(str, findings))
