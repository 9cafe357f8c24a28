"""Consumers that are frozen (a paused container, a swapping machine) and resumed, or stopped before they have
started: the other consumers continue, and nothing is lost or doubled.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import pytest

from config.job_results.common import EXIT_DONE, EXIT_FAILED, EXIT_NOTHING_TO_DO
from tests.faults.consumers import BOUNDED, FOLLOWER, Consumer, ConsumerPool, SignalPlan
from tests.faults.consuming import BATCH
from tests.faults.feed import Feed
from tests.faults.kill import drain
from tests.faults.oracle import judge, unread
from tests.faults.points import AFTER_POLL, BEFORE_COMMIT
from tests.support.killable_servers import KillableServers
from tests.support.streaming_installation import StreamInstallation
from tests.support.waiting import eventually

PATIENCE_S = 3
STREAMING = {"stalled_after_seconds": PATIENCE_S}
RECOVERY_S = 60


@pytest.fixture(params=["tansu", "apache"])
def installation(request: pytest.FixtureRequest, servers: KillableServers) -> Iterator[StreamInstallation]:
    """Fresh topics and an empty database, with each broker."""
    if request.param == "apache":
        servers.apache_kafka()
    with servers.installation(
        bootstrap=servers.apache_bootstrap if request.param == "apache" else ""
    ) as fresh:
        yield fresh


def start(
    workers: ConsumerPool, kind: str, installation: StreamInstallation, signal_plan: SignalPlan | None = None
) -> Consumer:
    options = ("--max-seconds", "60") if kind == BOUNDED else ()
    return workers.start(
        kind, installation, *options, batch=BATCH, streaming=STREAMING, signal_plan=signal_plan
    )


def all_read(installation: StreamInstallation) -> bool:
    return not unread(installation) and not installation.count("alert_outbox")


def bounded_runs_take_over(workers: ConsumerPool, installation: StreamInstallation) -> str:
    """Start bounded runs one after the other, as the DAG does; returns the log of the one that takes over."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        run = start(workers, BOUNDED, installation)
        if (code := run.wait()) == EXIT_DONE:
            return run.log.read_text()
        assert code == EXIT_NOTHING_TO_DO, run.end_of_log()
        assert "Another consumer is at work" in run.end_of_log()
        assert time.monotonic() < deadline, run.end_of_log()


def thaw(frozen: Consumer, installation: StreamInstallation, feed: Feed) -> None:
    """The resumed consumer notices that it was replaced; a follower continues by itself."""
    frozen.go_on()
    if frozen.kind == BOUNDED:
        assert frozen.wait() == EXIT_FAILED, frozen.end_of_log()
    else:
        feed.send(50)
        assert eventually(lambda: frozen.ended or all_read(installation), RECOVERY_S), frozen.end_of_log()
        assert frozen.stop() == EXIT_DONE, frozen.end_of_log()


@pytest.mark.parametrize("kind", [BOUNDED, FOLLOWER])
@pytest.mark.parametrize("point", [BEFORE_COMMIT, pytest.param(AFTER_POLL, marks=pytest.mark.proof)])
def test_bounded_runs_take_over_from_a_frozen_consumer(
    installation: StreamInstallation, workers: ConsumerPool, feed: Feed, kind: str, point: str
) -> None:
    feed.send(200)
    frozen = start(workers, kind, installation, SignalPlan(point, 3, signal.SIGSTOP))
    frozen.halted()
    feed.send(100)
    log = bounded_runs_take_over(workers, installation)
    assert '"stalled_holder_ended"' in log
    assert json.loads(log.splitlines()[-1])["stalled_holders_ended"]
    drain(installation, workers)
    thaw(frozen, installation, feed)
    assert not judge(installation, feed)


def test_a_follower_takes_over_from_a_frozen_one(
    installation: StreamInstallation, workers: ConsumerPool, feed: Feed
) -> None:
    feed.send(200)
    frozen = start(workers, FOLLOWER, installation, SignalPlan(BEFORE_COMMIT, 3, signal.SIGSTOP))
    frozen.halted()
    other = start(workers, FOLLOWER, installation)
    feed.send(100)
    assert eventually(lambda: other.ended or all_read(installation), RECOVERY_S), other.end_of_log()
    assert "stalled_holder_ended" in other.log.read_text()
    frozen.go_on()
    feed.send(50)
    assert eventually(lambda: all_read(installation), RECOVERY_S), frozen.end_of_log()
    assert frozen.stop() == other.stop() == EXIT_DONE
    feed.send(20)
    drain(installation, workers)
    assert not judge(installation, feed)


def test_a_follower_that_gets_on_is_left_alone(
    installation: StreamInstallation, workers: ConsumerPool, feed: Feed
) -> None:
    follower = start(workers, FOLLOWER, installation)
    feed.send(20)
    assert eventually(lambda: all_read(installation), RECOVERY_S), follower.end_of_log()
    deadline = time.monotonic() + 3 * PATIENCE_S
    while time.monotonic() < deadline:
        feed.send(20)
        start(workers, BOUNDED, installation).wait()
    assert eventually(lambda: all_read(installation), RECOVERY_S), follower.end_of_log()
    assert "Postgres was lost" not in follower.log.read_text()
    assert "connection to Postgres was lost" not in follower.log.read_text()
    assert follower.stop() == EXIT_DONE
    assert not judge(installation, feed)


EARLY = [
    pytest.param(signal.SIGTERM, 3.0),
    *(pytest.param(signal.SIGTERM, after, marks=pytest.mark.proof) for after in (0.5, 1.0, 2.0, 5.0)),
    pytest.param(signal.SIGINT, 2.0, marks=pytest.mark.proof),
    pytest.param(signal.SIGKILL, 2.0, marks=pytest.mark.proof),
]


@pytest.mark.parametrize(("number", "after_s"), EARLY)
def test_followers_stopped_soon_after_their_start_do_not_keep_the_next_one_out(
    installation: StreamInstallation,
    workers: ConsumerPool,
    feed: Feed,
    number: signal.Signals,
    after_s: float,
) -> None:
    feed.send(40)
    for _ in range(2):
        stopped = start(workers, FOLLOWER, installation)
        stopped.ends_within(after_s)
        stopped.send(number)
        stopped.wait(30)
    next_one = start(workers, FOLLOWER, installation)
    feed.send(40)
    assert eventually(lambda: all_read(installation), 40), next_one.end_of_log()
    assert next_one.stop() == EXIT_DONE
    assert not judge(installation, feed)
