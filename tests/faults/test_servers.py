"""Servers killed at critical moments of a consumer's work: nothing is lost or doubled."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from fraud_embedded.processes.process import StartFailed
from tests.faults.consumers import KINDS, ConsumerPool
from tests.faults.consuming import RECORDS, Consuming
from tests.faults.feed import MALFORMED, Feed
from tests.faults.points import AFTER_POLL, AFTER_SCORING, BEFORE_COMMIT, IN_TRANSACTION
from tests.support.killable_servers import KillableServers

# All other tests use bounded runs; followers take seconds to start, so `./fraud proof` covers them.
by_every_kind = pytest.mark.parametrize("consuming", KINDS, indirect=True)


@pytest.fixture(autouse=True)
def repaired_servers(servers: KillableServers) -> Iterator[None]:
    """Restart every server that a test has killed."""
    yield
    servers.repair()


def test_the_api_is_killed_and_restarted(servers: KillableServers, busy: Consuming) -> None:
    busy.through(AFTER_POLL, servers.restart_api)


@by_every_kind
def test_the_api_is_gone_for_a_while(servers: KillableServers, busy: Consuming) -> None:
    consumer = busy.start_and_halt(AFTER_POLL)
    servers.kill_api()
    consumer.go_on()
    busy.suffers(consumer, "does not answer")
    servers.start_api()
    busy.finish(consumer, "does not answer")


@by_every_kind
@pytest.mark.parametrize(
    ("point", "how"),
    [
        (BEFORE_COMMIT, signal.SIGKILL),
        pytest.param(BEFORE_COMMIT, signal.SIGQUIT, marks=pytest.mark.proof),
        pytest.param(IN_TRANSACTION, signal.SIGKILL, marks=pytest.mark.proof),
    ],
)
def test_postgres_is_restarted_in_mid_batch(
    servers: KillableServers, busy: Consuming, point: str, how: signal.Signals
) -> None:
    busy.through(point, lambda: servers.postgres.restart(how), after="Postgres")


@by_every_kind
@pytest.mark.parametrize("point", [AFTER_SCORING, pytest.param(AFTER_POLL, marks=pytest.mark.proof)])
def test_the_broker_is_killed_and_restarted(servers: KillableServers, busy: Consuming, point: str) -> None:
    busy.through(point, servers.broker.restart, after="Kafka")


@pytest.mark.proof
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", [AFTER_POLL, AFTER_SCORING])
def test_apache_kafka_is_killed_and_restarted(
    servers: KillableServers, workers: ConsumerPool, seed: int, kind: str, point: str
) -> None:
    try:
        apache = servers.apache_kafka()
    except StartFailed as error:
        pytest.skip(str(error))
    with (
        servers.installation(bootstrap=servers.apache_bootstrap) as installation,
        Feed(installation, seed) as feed,
    ):
        feed.send(RECORDS, malformed=0.01, repeated=0.01)
        Consuming(kind, installation, feed, workers).through(point, apache.restart, after="Kafka")


def test_the_dead_letter_topic_is_unavailable(servers: KillableServers, consuming: Consuming) -> None:
    """The broker is killed after a batch's rows are written and before its dead letters are sent."""
    consuming.feed.put_bad(MALFORMED[0])
    consuming.feed.flush()
    consuming.feed.send(50)
    consumer = consuming.start_and_halt(IN_TRANSACTION, passage=1)
    servers.broker.kill()
    consumer.go_on()
    consuming.suffers(consumer, "Kafka")
    servers.broker.start()
    consuming.finish(consumer, "Kafka")
