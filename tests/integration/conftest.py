"""Real servers for the tests, each started when the first test asks for it and stopped at the end."""

from __future__ import annotations

import itertools
import secrets as random
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg2
import pytest
from psycopg2 import sql

from config import constants
from config.settings import KafkaSettings, ObjectStoreSettings, PlatformSettings, parameters
from fraud_adapters.kafka import ensure_topics
from fraud_db.bootstrap import Passwords, bootstrap, clone_database
from fraud_db.upgrade import upgrade
from fraud_embedded import broker, mlflow, objectstore, postgres
from fraud_embedded.ports import free_ports
from fraud_embedded.process import ProcessSpec, Running
from fraud_embedded.stack import Ports, Secrets, Stack, build

# Not the defaults, so that a name wired into the code is found out.
OWNER: Final = "ledger_owner"
TEMPLATE: Final = "ledger_template"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """A freshly migrated database of one test."""

    name: str
    owner: str
    server: postgres.Postgres
    passwords: Passwords

    def url(self, role: str = "owner") -> str:
        """The URL for a role: `owner`, a service (`producer`, `streaming`, `api`, …) or `admin`."""
        if role == "admin":
            return self.server.url(database=self.name)
        if role in {"owner", self.owner}:
            return self.server.url(self.owner, self.passwords.owner, self.name)
        services = {login: service for service, login in constants.SERVICE_ROLES.items()}
        service = services.get(role, role)
        return self.server.url(constants.SERVICE_ROLES[service], self.passwords.services[service], self.name)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The servers' configuration on free ports, in a directory that goes away."""
    base = Path(tempfile.mkdtemp(prefix="fraud-test-"))
    # The database's account must get through to its own directory below.
    base.chmod(0o711)
    free = free_ports(4 + objectstore.INTERNAL_PORTS)
    ports = Ports(free[0], free[1], free[2], free[3], tuple(free[4:]))
    secrets = Secrets(*(random.token_hex(12) for _ in range(4)))
    try:
        yield build(base, base, ports, secrets, durable=False)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _run(spec: ProcessSpec) -> Iterator[None]:
    running = Running(spec, spec.cwd.parent / f"{spec.name}.log")
    try:
        running.wait_ready(120)
        yield
    finally:
        # What they hold is thrown away: no reason to wait for an orderly end.
        running.stop(patience_s=2)


@pytest.fixture(scope="session")
def postgres_server(stack: Stack) -> Iterator[postgres.Postgres]:
    postgres.prepare(stack.postgres)
    for _ in _run(postgres.spec(stack.postgres)):
        yield stack.postgres


@pytest.fixture(scope="session")
def postgres_admin_url(postgres_server: postgres.Postgres) -> str:
    """URL of the superuser."""
    return postgres_server.url()


@pytest.fixture(scope="session")
def passwords(stack: Stack) -> Passwords:
    """One for each role; MLflow's is the one its server was configured with."""
    return Passwords(
        owner=random.token_hex(12),
        mlflow=_password(stack.mlflow.database_url),
        services={service: random.token_hex(12) for service in constants.SERVICE_ROLES},
    )


def _password(url: str) -> str:
    return str(psycopg2.extensions.parse_dsn(url)["password"])


@pytest.fixture(scope="session")
def roles(postgres_admin_url: str, passwords: Passwords) -> None:
    bootstrap(postgres_admin_url, passwords, database=TEMPLATE, owner=OWNER)


@pytest.fixture(scope="session")
def template(roles: None, postgres_server: postgres.Postgres, passwords: Passwords) -> Database:
    """The database every test's own is copied from: made by the real migrations, used by nobody."""
    made = Database(TEMPLATE, OWNER, postgres_server, passwords)
    upgrade(made.url("owner"), parameters(PlatformSettings()).labels)
    return made


@pytest.fixture
def database(template: Database, postgres_admin_url: str) -> Iterator[Database]:
    """A database of the test's own, freshly migrated."""
    name = f"ledger_{next(_numbers)}"
    clone_database(postgres_admin_url, TEMPLATE, name, OWNER)
    yield Database(name, OWNER, template.server, template.passwords)
    connection = psycopg2.connect(postgres_admin_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    connection.close()


@pytest.fixture(scope="session")
def object_store_server(stack: Stack) -> Iterator[objectstore.ObjectStoreServer]:
    objectstore.prepare(stack.objectstore)
    for _ in _run(objectstore.spec(stack.objectstore)):
        yield stack.objectstore
    objectstore.remove_sockets(stack.objectstore.internal_ports)


@pytest.fixture(scope="session")
def object_store(object_store_server: objectstore.ObjectStoreServer) -> ObjectStoreSettings:
    """Settings of a running object store, for the bucket jobs hand over in."""
    return bucket_settings(object_store_server, constants.BUCKET_RUNS)


@pytest.fixture(scope="session")
def object_store_admin(object_store_server: objectstore.ObjectStoreServer) -> ObjectStoreSettings:
    """Settings of the store's administrator, who may make buckets."""
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


@pytest.fixture(scope="session")
def kafka_bootstrap(stack: Stack, object_store_server: objectstore.ObjectStoreServer) -> Iterator[str]:
    """Address of a running broker that keeps its log in the object store."""
    broker.prepare(stack.broker)
    for _ in _run(broker.spec(stack.broker)):
        yield stack.broker.bootstrap


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


@pytest.fixture(scope="session")
def mlflow_uri(
    stack: Stack, roles: None, object_store_server: objectstore.ObjectStoreServer
) -> Iterator[str]:
    """Address of a running MLflow server; takes about 20 s to start, so ask for it only where it matters."""
    mlflow.prepare(stack.mlflow)
    for _ in _run(mlflow.spec(stack.mlflow)):
        yield stack.mlflow.tracking_uri
