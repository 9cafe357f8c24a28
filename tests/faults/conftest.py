"""The servers of the fault tests, which kill them; started once and not shared with other tests.

They stop after the last of these tests, because idle servers would slow down the worker's next tests.
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
from tests.support.server_fixtures import (
    mlflow_uri,
    object_store_server,
    passwords,
    postgres_admin_url,
    postgres_server,
    roles,
    stack,
)
from tests.support.servers import memory_folder
from tests.support.streaming_installation import StreamInstallation

# MLflow on a database of its own, for tests in which that of the platform is killed.
__all__ = [
    "mlflow_uri",
    "object_store_server",
    "passwords",
    "postgres_admin_url",
    "postgres_server",
    "roles",
    "stack",
]


@pytest.fixture(scope="package")
def servers() -> Iterator[KillableServers]:
    with running_servers(memory_folder()) as running:
        yield running


@pytest.fixture(scope="package")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsumerPool]:
    """The pool that starts consumers."""
    with pool(tmp_path_factory.mktemp("consumers")) as consumer_pool:
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
    """Each kind of consumer in turn, on an empty topic."""
    return Consuming(request.param, installation, feed, workers)


@pytest.fixture
def busy(consuming: Consuming) -> Consuming:
    """Each kind of consumer in turn, on a topic with transactions, 1 % of them malformed or repeated."""
    consuming.feed.send(RECORDS, malformed=0.01, repeated=0.01)
    return consuming


def pytest_configure() -> None:
    # Chosen before the workers are started, so that all of them inherit the same seed.
    os.environ.setdefault("FAULT_SEED", str(random.SystemRandom().randrange(1_000_000)))


def pytest_report_header() -> str:
    return f"faults: FAULT_SEED={os.environ['FAULT_SEED']} repeats this run's"


@pytest.fixture(scope="session")
def seed() -> int:
    """The value of FAULT_SEED, which the report's header shows."""
    return int(os.environ["FAULT_SEED"])
