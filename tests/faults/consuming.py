"""A consumer at work during a fault, and the checks afterwards."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from config.job_results.common import EXIT_DONE, EXIT_FAILED
from tests.faults.consumers import BOUNDED, Consumer, ConsumerPool, SignalPlan
from tests.faults.feed import Feed
from tests.faults.kill import drain
from tests.faults.oracle import judge, unread
from tests.support.streaming_installation import StreamInstallation
from tests.support.waiting import eventually

BATCH = 20
RECORDS = 400
RECOVERY_SECONDS = 90  # generous, so that a loaded machine does not fail a test


@dataclass(frozen=True, slots=True)
class Consuming:
    """One kind of consumer on an installation and a feed, halted at a point where a fault happens."""

    kind: str
    installation: StreamInstallation
    feed: Feed
    workers: ConsumerPool

    def start(self, signal_plan: SignalPlan | None = None) -> Consumer:
        options = ("--max-seconds", "120") if self.kind == BOUNDED else ()
        return self.workers.start(
            self.kind, self.installation, *options, batch=BATCH, signal_plan=signal_plan
        )

    def start_and_halt(self, point: str, passage: int = 3) -> Consumer:
        """Start a consumer that halts at a point of its work, until `go_on`."""
        consumer = self.start(SignalPlan(point, passage, signal.SIGSTOP))
        consumer.halted()
        return consumer

    def through(self, point: str, fault: Callable[[], None], *, after: str = "") -> Consumer:
        """Run `fault` while the consumer is halted at a point, then finish.

        Args:
            after: see `finish`.
        """
        consumer = self.start_and_halt(point)
        fault()
        consumer.go_on()
        self.finish(consumer, after)
        return consumer

    def suffers(self, consumer: Consumer, sentence: str) -> None:
        """The consumer logs the fault: a bounded run ends with exit code 1, a follower keeps running."""
        if self.kind == BOUNDED:
            assert consumer.wait() == EXIT_FAILED, consumer.end_of_log()
        assert eventually(lambda: sentence in consumer.end_of_log(), 60), consumer.end_of_log()
        assert self.kind == BOUNDED or not consumer.ended, consumer.end_of_log()

    def finish(self, consumer: Consumer, after: str = "") -> None:
        """Consume everything, then check it with the oracle. A follower must recover by itself.

        Args:
            after: the error a bounded run may end with before the next continues; by default none may.
        """
        if self.kind == BOUNDED:
            while (code := consumer.wait()) != EXIT_DONE:
                assert code == EXIT_FAILED and after and after in consumer.end_of_log(), consumer.end_of_log()
                consumer = self.start()
            drain(self.installation, self.workers)
        else:
            assert eventually(lambda: consumer.ended or self._done(), RECOVERY_SECONDS)
            assert consumer.stop() == EXIT_DONE and self._done(), consumer.end_of_log()
        self.judge()

    def _done(self) -> bool:
        return not unread(self.installation) and not self.installation.count("alert_outbox")

    def judge(self) -> None:
        findings = judge(self.installation, self.feed)
        assert not findings, "\n".join(map(str, findings))
