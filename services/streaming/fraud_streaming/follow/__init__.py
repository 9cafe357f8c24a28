"""`run --follow`: the long-lived consumer, one lane for each topic."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Final

from config.job_results import FollowResult
from fraud_adapters.job import failure_of
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.job.logs import get_logger
from fraud_streaming.consume.report import result_of
from fraud_streaming.follow.companion import Companion
from fraud_streaming.follow.health import State, serve
from fraud_streaming.follow.lane import FINISH_SECONDS, Lane
from fraud_streaming.follow.metrics import Metrics
from fraud_streaming.follow.watch import Watch, Watched
from fraud_streaming.installation import Feed, Installation, feeds

# What is in flight, then leaving the group and closing connections; a server that hangs is not waited for.
STOP_SECONDS: Final = FINISH_SECONDS + 8.0
COMPANION_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Port:
    """Where health and metrics are served."""

    host: str
    port: int


def follow(installation: Installation, stop: Event, port: Port | None = None) -> FollowResult:
    """Follow both topics until `stop` is set; gives what was done.

    Raises:
        JobFailed: a failure that does not pass by itself.
        ConfigurationError: the port cannot be had.
    """
    metrics = Metrics()
    companion = Companion(installation, metrics)
    followers = [_Follower(installation, feed, stop, metrics, companion) for feed in feeds(installation)]
    watched = [Watched(one.feed.topic, one.lane, metrics.lane(one.feed.topic)) for one in followers]
    watch = Watch(installation, watched, stop)
    threads: tuple[Thread, ...] = (companion, watch, *followers)
    server = serve(port.host, port.port, metrics.registry, *_states(followers, threads)) if port else None
    started = time.monotonic()
    get_logger(__name__).info("following", topics=[follower.feed.topic for follower in followers])
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
    """A lane in a thread of its own; its failure stops all."""

    def __init__(
        self, installation: Installation, feed: Feed, stop: Event, metrics: Metrics, companion: Companion
    ) -> None:
        # A daemon: a server that never answers must not keep the process from ending.
        super().__init__(name=feed.name, daemon=True)
        self.feed = feed
        self.failure: BaseException | None = None
        self._stop_all = stop
        self.lane = Lane(installation, feed, stop, metrics.lane(feed.topic), companion.wake)

    def run(self) -> None:
        try:
            self.lane.run()
        except BaseException as error:
            if not isinstance(error, JobFailed):
                get_logger(__name__).error("lane_failed", topic=self.feed.topic, exc_info=True)
            self.failure = error
            self._stop_all.set()


def _states(followers: list[_Follower], threads: tuple[Thread, ...]) -> tuple[State, State]:
    def live() -> tuple[bool, dict[str, Any]]:
        states = {thread.name: thread.is_alive() for thread in threads}
        return all(states.values()), {"threads": states}

    def ready() -> tuple[bool, dict[str, Any]]:
        waits_for = {follower.name: follower.lane.waits_for() for follower in followers}
        lanes = {name: what is None for name, what in waits_for.items()}
        reasons = {name: what for name, what in waits_for.items() if what is not None}
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
