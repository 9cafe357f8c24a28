"""The servers that the faults happen to: started once, for these tests alone, since they get killed.

It ends with the last of its tests: idle servers would slow those of other folders that the worker runs next.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.faults.consumers import BOUNDED, FOLLOWER, ConsumerPool, pool
from tests.faults.consuming import RECORDS, Consuming
from tests.faults.feed import Feed
from tests.support.killable_servers import KillableServers, running_servers
from tests.support.streaming_installation import StreamInstallation


@pytest.fixture(scope="package")
def servers() -> Iterator[KillableServers]:
    with running_servers() as running:
        yield running


@pytest.fixture(scope="package")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsumerPool]:
    """Who starts consumers."""
    with pool(tmp_path_factory.mktemp("crew")) as consumer_pool:
        yield consumer_pool


@pytest.fixture
def installation(servers: KillableServers) -> Iterator[StreamInstallation]:
    """Fresh topics of two partitions and an empty database."""
    with servers.installation() as fresh:
        yield fresh


@pytest.fixture
def feed(installation: StreamInstallation, seed: int) -> Iterator[Feed]:
    with Feed(installation, seed) as new_feed:
        yield new_feed


@pytest.fixture(params=[BOUNDED, pytest.param(FOLLOWER, marks=pytest.mark.proof)])
def consuming(
    request: pytest.FixtureRequest, installation: StreamInstallation, feed: Feed, workers: ConsumerPool
) -> Consuming:
    """Each kind of consumer in turn; nothing waits for it yet."""
    return Consuming(request.param, installation, feed, workers)


@pytest.fixture
def busy(consuming: Consuming) -> Consuming:
    """Each kind of consumer in turn, with transactions waiting for it, 1 % of them malformed or repeated."""
    consuming.feed.send(RECORDS, malformed=0.01, repeated=0.01)
    return consuming


def pytest_configure() -> None:
    # Chosen once, before the workers are started: they inherit it.
    os.environ.setdefault("FAULT_SEED", str(random.SystemRandom().randrange(1_000_000)))


def pytest_report_header() -> str:
    return f"faults: FAULT_SEED={os.environ['FAULT_SEED']} repeats this run's"


@pytest.fixture(scope="session")
def seed() -> int:
    """From FAULT_SEED; the report's header shows it."""
    return int(os.environ["FAULT_SEED"])
