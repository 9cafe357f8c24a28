"""Consumers that are frozen (a paused container, a machine without memory) and thawed, and those that are
stopped before they have begun: the others go on, and nothing is lost or doubled.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import pytest

from config.job_results import EXIT_DONE, EXIT_FAILED, EXIT_NOTHING_TO_DO
from tests.faults.consuming import BATCH
from tests.faults.crew import BOUNDED, FOLLOWER, Consumer, Crew, Fate
from tests.faults.feed import Feed
from tests.faults.kill import drain
from tests.faults.oracle import judge, unread
from tests.faults.points import AFTER_POLL, BEFORE_COMMIT
from tests.support.killable_servers import World
from tests.support.streaming_installation import StreamingSite
from tests.support.waiting import eventually

PATIENCE_S = 3
STREAMING = {"stalled_after_seconds": PATIENCE_S}
RECOVERY_S = 60


@pytest.fixture(params=["tansu", "apache"])
def site(request: pytest.FixtureRequest, world: World) -> Iterator[StreamingSite]:
    """Fresh topics and an empty database, with each broker."""
    if request.param == "apache":
        world.apache_kafka()
    with world.site(bootstrap=world.apache_bootstrap if request.param == "apache" else "") as made:
        yield made


def start(workers: Crew, kind: str, site: StreamingSite, fate: Fate | None = None) -> Consumer:
    options = ("--max-seconds", "60") if kind == BOUNDED else ()
    return workers.start(kind, site, *options, batch=BATCH, streaming=STREAMING, fate=fate)


def all_read(site: StreamingSite) -> bool:
    return not unread(site) and not site.count("alert_outbox")


def bounded_runs_take_over(workers: Crew, site: StreamingSite) -> str:
    """As the DAG starts them, one after the other; the log of the one that takes over."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        run = start(workers, BOUNDED, site)
        if (code := run.wait()) == EXIT_DONE:
            return run.log.read_text()
        assert code == EXIT_NOTHING_TO_DO, run.last_words()
        assert "Another consumer is at work" in run.last_words()
        assert time.monotonic() < deadline, run.last_words()


def thaw(frozen: Consumer, site: StreamingSite, feed: Feed) -> None:
    """It notices, and a follower goes on by itself."""
    frozen.go_on()
    if frozen.kind == BOUNDED:
        assert frozen.wait() == EXIT_FAILED, frozen.last_words()
    else:
        feed.send(50)
        assert eventually(lambda: frozen.ended.is_set() or all_read(site), RECOVERY_S), frozen.last_words()
        assert frozen.stop() == EXIT_DONE, frozen.last_words()


@pytest.mark.parametrize("kind", [BOUNDED, FOLLOWER])
@pytest.mark.parametrize("point", [BEFORE_COMMIT, pytest.param(AFTER_POLL, marks=pytest.mark.proof)])
def test_bounded_runs_take_over_from_a_frozen_consumer(
    site: StreamingSite, workers: Crew, feed: Feed, kind: str, point: str
) -> None:
    feed.send(200)
    frozen = start(workers, kind, site, Fate(point, 3, signal.SIGSTOP))
    frozen.halted()
    feed.send(100)
    log = bounded_runs_take_over(workers, site)
    assert '"stalled_holder_ended"' in log
    assert json.loads(log.splitlines()[-1])["stalled_holders_ended"]
    drain(site, workers)
    thaw(frozen, site, feed)
    assert not judge(site, feed)


def test_a_follower_takes_over_from_a_frozen_one(site: StreamingSite, workers: Crew, feed: Feed) -> None:
    feed.send(200)
    frozen = start(workers, FOLLOWER, site, Fate(BEFORE_COMMIT, 3, signal.SIGSTOP))
    frozen.halted()
    other = start(workers, FOLLOWER, site)
    feed.send(100)
    assert eventually(lambda: other.ended.is_set() or all_read(site), RECOVERY_S), other.last_words()
    assert "stalled_holder_ended" in other.log.read_text()
    frozen.go_on()
    feed.send(50)
    assert eventually(lambda: all_read(site), RECOVERY_S), frozen.last_words()
    assert frozen.stop() == other.stop() == EXIT_DONE
    feed.send(20)
    drain(site, workers)
    assert not judge(site, feed)


def test_a_follower_that_gets_on_is_left_alone(site: StreamingSite, workers: Crew, feed: Feed) -> None:
    follower = start(workers, FOLLOWER, site)
    feed.send(20)
    assert eventually(lambda: all_read(site), RECOVERY_S), follower.last_words()
    deadline = time.monotonic() + 3 * PATIENCE_S
    while time.monotonic() < deadline:
        feed.send(20)
        start(workers, BOUNDED, site).wait()
    assert eventually(lambda: all_read(site), RECOVERY_S), follower.last_words()
    assert "Postgres went away" not in follower.log.read_text()
    assert follower.stop() == EXIT_DONE
    assert not judge(site, feed)


EARLY = [
    pytest.param(signal.SIGTERM, 3.0),
    *(pytest.param(signal.SIGTERM, after, marks=pytest.mark.proof) for after in (0.5, 1.0, 2.0, 5.0)),
    pytest.param(signal.SIGINT, 2.0, marks=pytest.mark.proof),
    pytest.param(signal.SIGKILL, 2.0, marks=pytest.mark.proof),
]


@pytest.mark.parametrize(("number", "after_s"), EARLY)
def test_followers_stopped_soon_after_their_start_do_not_keep_the_next_one_out(
    site: StreamingSite, workers: Crew, feed: Feed, number: signal.Signals, after_s: float
) -> None:
    feed.send(40)
    for _ in range(2):
        stopped = start(workers, FOLLOWER, site)
        stopped.ended.wait(after_s)
        stopped.send(number)
        stopped.wait(30)
    next_one = start(workers, FOLLOWER, site)
    feed.send(40)
    assert eventually(lambda: all_read(site), 40), next_one.last_words()
    assert next_one.stop() == EXIT_DONE
    assert not judge(site, feed)
