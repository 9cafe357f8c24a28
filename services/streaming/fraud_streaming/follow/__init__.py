"""`run --follow`: the long-lived consumer, one lane for each topic."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Final

from config.job_results.streaming import FollowResult
from fraud_adapters.job import failure_of
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.job.logs import get_logger
from fraud_streaming.consume.report import result_of
from fraud_streaming.follow.companion import Companion
from fraud_streaming.follow.health import HealthCheck, serve
from fraud_streaming.follow.lane import FINISH_SECONDS, Lane
from fraud_streaming.follow.metrics import Metrics
from fraud_streaming.follow.watch import Watch, WatchedTopic
from fraud_streaming.installation import ConsumedTopic, Installation, consumed_topics

# Time to finish the chunks in flight, leave the group and close connections; a hanging server is not awaited.
STOP_SECONDS: Final = FINISH_SECONDS + 8.0
COMPANION_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """The address on which health and metrics are served."""

    host: str
    address: int


def follow(installation: Installation, stop: Event, address: ListenAddress | None = None) -> FollowResult:
    """Follow both topics until `stop` is set, and return the result.

    Raises:
        JobFailed: a failure that a retry cannot resolve.
        ConfigurationError: the port cannot be bound.
    """
    metrics = Metrics()
    companion = Companion(installation, metrics)
    followers = [
        _Follower(installation, consumed, stop, metrics, companion)
        for consumed in consumed_topics(installation)
    ]
    watched = [
        WatchedTopic(follower.consumed.topic, follower.lane, metrics.lane(follower.consumed.topic))
        for follower in followers
    ]
    watch = Watch(installation, watched, stop)
    threads: tuple[Thread, ...] = (companion, watch, *followers)
    server = (
        serve(address.host, address.address, metrics.registry, *_health_checks(followers, threads))
        if address
        else None
    )
    started = time.monotonic()
    get_logger(__name__).info("following", topics=[follower.consumed.topic for follower in followers])
    try:
        for thread in threads:
            thread.start()
        stop.wait()
        deadline = time.monotonic() + STOP_SECONDS
        for follower in followers:
            follower.join(max(0.0, deadline - time.monotonic()))
        companion.end()
        companion.join(COMPANION_SECONDS)
    finally:
        stop.set()
        if server is not None:
            server.shutdown()
            server.server_close()
    return _result(followers, time.monotonic() - started)


class _Follower(Thread):
    """Runs a lane in its own thread; a failure stops all followers."""

    def __init__(
        self,
        installation: Installation,
        consumed: ConsumedTopic,
        stop: Event,
        metrics: Metrics,
        companion: Companion,
    ) -> None:
        # A daemon thread, because a server that never answers must not keep the process alive.
        super().__init__(name=consumed.name, daemon=True)
        self.consumed = consumed
        self.failure: BaseException | None = None
        self._stop_all = stop
        self.lane = Lane(installation, consumed, stop, metrics.lane(consumed.topic), companion.wake)

    def run(self) -> None:
        try:
            self.lane.run()
        except BaseException as error:
            if not isinstance(error, JobFailed):
                get_logger(__name__).error("lane_failed", topic=self.consumed.topic, exc_info=True)
            self.failure = error
            self._stop_all.set()


def _health_checks(
    followers: list[_Follower], threads: tuple[Thread, ...]
) -> tuple[HealthCheck, HealthCheck]:
    def live() -> tuple[bool, dict[str, Any]]:
        states = {thread.name: thread.is_alive() for thread in threads}
        return all(states.values()), {"threads": states}

    def ready() -> tuple[bool, dict[str, Any]]:
        waits_for = {follower.name: follower.lane.waits_for() for follower in followers}
        lanes = {name: reason is None for name, reason in waits_for.items()}
        reasons = {name: reason for name, reason in waits_for.items() if reason is not None}
        return not reasons, {"lanes": lanes, **({"waits_for": reasons} if reasons else {})}

    return live, ready


def _result(followers: list[_Follower], seconds: float) -> FollowResult:
    for follower in followers:
        follower.lane.report.seconds = seconds
    result = result_of({follower.name: follower.lane.report for follower in followers})
    for follower in followers:
        if follower.failure is not None:
            raise failure_of(follower.failure).extended(result=result) from follower.failure
    return result
