"""Real servers for the tests, each started when the first test asks for it and stopped after the last one."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from config import constants
from config.settings import KafkaSettings, ObjectStoreSettings, PlatformSettings, parameters
from fraud_adapters.kafka import ensure_topics
from fraud_db.bootstrap import Passwords, bootstrap
from fraud_db.upgrade import upgrade
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.processes.process import ProcessSpec, Running, StartFailed
from fraud_embedded.servers import broker, mlflow, objectstore, postgres
from fraud_embedded.servers.stack import Stack
from tests.support import apache_kafka as apache
from tests.support.kafka_server import KafkaServer
from tests.support.mlflow_users import mlflow_login
from tests.support.servers import (
    OWNER,
    TEMPLATE,
    Database,
    cloned_database,
    configured_stack,
    memory_folder,
    random_passwords,
)

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """The servers' configuration, with free ports and a temporary directory."""
    with configured_stack(durable=False, below=memory_folder()) as configured:
        yield configured


def _run(spec: ProcessSpec) -> Iterator[None]:
    running = Running(spec, spec.cwd.parent / f"{spec.name}.log")
    try:
        running.wait_ready(120)
        yield
    finally:
        # Their data is discarded, so there is no reason to wait for a graceful stop.
        running.stop(patience_s=2)


@pytest.fixture(scope="package")
def postgres_server(stack: Stack) -> Iterator[postgres.Postgres]:
    postgres.prepare(stack.postgres)
    for _ in _run(postgres.spec(stack.postgres)):
        yield stack.postgres


@pytest.fixture(scope="package")
def postgres_admin_url(postgres_server: postgres.Postgres) -> str:
    """URL of the superuser."""
    return postgres_server.url()


@pytest.fixture(scope="package")
def passwords(stack: Stack) -> Passwords:
    """A random password for each role; MLflow's is the one its server was configured with."""
    return random_passwords(stack)


@pytest.fixture(scope="package")
def roles(postgres_admin_url: str, passwords: Passwords) -> None:
    bootstrap(postgres_admin_url, passwords, database=TEMPLATE, owner=OWNER)


@pytest.fixture(scope="package")
def template(roles: None, postgres_server: postgres.Postgres, passwords: Passwords) -> Database:
    """The migrated database that each test's database is copied from; no test connects to it."""
    migrated = Database(TEMPLATE, OWNER, postgres_server, passwords)
    upgrade(migrated.url("owner"), parameters(PlatformSettings()).labels)
    return migrated


@pytest.fixture
def database(template: Database, postgres_admin_url: str) -> Iterator[Database]:
    """A database of the test's own, freshly migrated."""
    with cloned_database(template, f"ledger_{next(_numbers)}") as fresh:
        yield fresh


@pytest.fixture(scope="package")
def object_store_server(stack: Stack) -> Iterator[objectstore.ObjectStoreServer]:
    objectstore.prepare(stack.objectstore)
    for _ in _run(objectstore.spec(stack.objectstore)):
        yield stack.objectstore
    objectstore.remove_sockets(stack.objectstore.internal_ports)


@pytest.fixture
def own_object_store() -> Iterator[objectstore.ObjectStoreServer]:
    """A store of the test's own with its identities written; the test starts it with `running_store`."""
    with configured_stack(durable=False, below=memory_folder()) as configured:
        objectstore.prepare(configured.objectstore)
        yield configured.objectstore
        objectstore.remove_sockets(configured.objectstore.internal_ports)


@contextmanager
def running_store(server: objectstore.ObjectStoreServer) -> Iterator[None]:
    """Meanwhile the store runs, with all buckets of the platform."""
    yield from _run(objectstore.spec(server))


@pytest.fixture(scope="package")
def object_store(object_store_server: objectstore.ObjectStoreServer) -> ObjectStoreSettings:
    """Settings of a running object store, for the bucket through which jobs pass data."""
    return bucket_settings(object_store_server, constants.BUCKET_RUNS)


@pytest.fixture(scope="package")
def object_store_admin(object_store_server: objectstore.ObjectStoreServer) -> ObjectStoreSettings:
    """Settings of the store's administrator, who may create buckets."""
    return ObjectStoreSettings.model_validate(
        {
            "s3_endpoint_url": object_store_server.endpoint_url,
            "aws_access_key_id": object_store_server.access_key,
            "aws_secret_access_key": object_store_server.secret_key,
        }
    )


def bucket_settings(server: objectstore.ObjectStoreServer, bucket: str) -> ObjectStoreSettings:
    """Settings of a client that may use one bucket."""
    environment = server.bucket_environment(bucket)
    return ObjectStoreSettings.model_validate({name.lower(): value for name, value in environment.items()})


def _kafka(address: str, spec: ProcessSpec) -> Iterator[KafkaServer]:
    server = KafkaServer(address, spec)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="package")
def tansu(stack: Stack, object_store_server: objectstore.ObjectStoreServer) -> Iterator[KafkaServer]:
    """The embedded broker, which keeps its log in the object store."""
    broker.prepare(stack.broker)
    yield from _kafka(stack.broker.bootstrap, broker.spec(stack.broker))


@pytest.fixture(scope="package")
def kafka_bootstrap(tansu: KafkaServer) -> str:
    """Address of the embedded broker."""
    return tansu.bootstrap


@pytest.fixture(scope="package")
def apache_kafka(stack: Stack) -> Iterator[KafkaServer]:
    """Apache Kafka itself; needs Java, and Maven when its jars were never fetched."""
    port, controller_port = free_ports(2)
    try:
        java, jars = apache.find_java(), apache.fetch_jars()
    except StartFailed as error:
        pytest.skip(str(error))
    folder = stack.broker.place.with_name("apache")
    server = apache.ApacheKafka(folder, port, controller_port, jars, java, apache.SHORT_LIVED)
    apache.prepare(server)
    yield from _kafka(server.bootstrap, apache.spec(server))


@pytest.fixture(scope="package")
def apache_kafka_bootstrap(apache_kafka: KafkaServer) -> str:
    """Address of Apache Kafka."""
    return apache_kafka.bootstrap


@pytest.fixture(params=["tansu", "apache_kafka"])
def any_kafka(request: pytest.FixtureRequest) -> KafkaServer:
    """Each broker the platform runs on."""
    server: KafkaServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def topics(kafka_bootstrap: str) -> KafkaSettings:
    """Kafka settings with a prefix and a group of the test's own; the four topics have one partition each."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka_bootstrap,
        kafka_topic=f"{name}-transactions",
        kafka_group=f"{name}-streaming",
    )
    names = [settings.topic, settings.labels_topic, settings.alerts_topic, settings.dlq_topic]
    ensure_topics(kafka_bootstrap, names, partitions=1)
    return settings


@pytest.fixture(scope="package")
def mlflow_uri(
    stack: Stack, roles: None, object_store_server: objectstore.ObjectStoreServer
) -> Iterator[str]:
    """Address of a running MLflow server; takes about 20 s to start, so ask for it only where it matters.

    While it runs, the environment holds the passwords of its users, and this process logs in as the trainer.
    """
    mlflow.prepare(stack.mlflow)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**stack.mlflow.users, **mlflow_login("trainer", stack.mlflow.users)}.items():
            patch.setenv(name, value)
        for _ in _run(mlflow.spec(stack.mlflow)):
            yield stack.mlflow.tracking_uri
