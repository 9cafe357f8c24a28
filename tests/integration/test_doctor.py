"""Doctor's checks of the servers, each against the real one: seen to pass, and seen to fail."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from config import constants, services
from config.settings import KafkaSettings
from fraud_adapters.job.failures import JobFailed
from fraud_db.bootstrap import create_database
from fraud_embedded.doctor import databases, stores, web
from fraud_embedded.doctor.examination import Check, examine
from fraud_embedded.doctor.target import Target
from fraud_embedded.servers.objectstore import ObjectStoreServer
from fraud_embedded.servers.stack import Stack
from fraud_launcher.findings import Problem, State
from tests.support.api_server import CLIENTS, ApiServer, scoring_server
from tests.support.server_fixtures import running_store
from tests.support.servers import Database
from tests.support.stored_rows import run

WRONG = "not-the-secret-of-anybody"


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def stopped(target: Target, server: str) -> Target:
    return replace(target, ports={**target.ports, server: closed_port()})


def with_secret(target: Target, name: str, value: str = WRONG) -> Target:
    return replace(target, settings={**target.settings, name: value})


def sentence(check: Callable[[Target], str], target: Target, part: str) -> str:
    """What the examination reports of a check that has to fail."""
    [finding] = examine([Check(part, "check", lambda: check(target))], target)
    assert finding.state is State.PROBLEM, finding
    assert finding.fix
    return f"{finding.detail} {finding.fix}"


@pytest.fixture
def postgres(database: Database) -> Target:
    passwords = database.passwords
    settings = {services.role_password(role): secret for role, secret in passwords.services.items()}
    settings |= {"DB_PASSWORD": passwords.owner, "DB_USER": database.owner, "DB_NAME": database.name}
    return Target("demo", True, settings, {"postgres": database.server.port})


def test_postgres_that_is_as_it_should_be(postgres: Target) -> None:
    assert "accepts all" in databases.check_log_ins(postgres)
    assert "newest revision" in databases.check_migrations(postgres)
    assert "rights" in databases.check_rights(postgres)


def test_postgres_that_is_stopped(postgres: Target) -> None:
    away = stopped(postgres, "postgres")
    for check in (databases.check_log_ins, databases.check_migrations, databases.check_rights):
        text = sentence(check, away, "postgres")
        assert "Postgres is not available" in text
        assert "demo-logs postgres" in text


@pytest.mark.parametrize("variable", ["DB_PASSWORD", "DB_PASSWORD_API", "DB_PASSWORD_READONLY"])
def test_a_password_that_postgres_refuses(postgres: Target, variable: str) -> None:
    text = sentence(databases.check_log_ins, with_secret(postgres, variable), "postgres")
    assert f"{variable} in .env is not its password" in text
    assert WRONG not in text


def test_a_database_that_is_not_migrated(postgres: Target, postgres_admin_url: str) -> None:
    name = f"{postgres.database}_empty"
    create_database(postgres_admin_url, name, postgres.settings["DB_USER"], [])
    try:
        empty = with_secret(postgres, "DB_NAME", name)
        assert "was never migrated" in sentence(databases.check_migrations, empty, "postgres")
        admin = postgres_admin_url.rpartition("/")[0] + f"/{name}"
        run(admin, "CREATE TABLE alembic_version (version_num text)")
        run(admin, f"ALTER TABLE alembic_version OWNER TO {postgres.settings['DB_USER']}")
        run(admin, "INSERT INTO alembic_version VALUES ('0001')")
        assert "is at revision 0001" in sentence(databases.check_migrations, empty, "postgres")
    finally:
        run_outside(postgres_admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def run_outside(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


def test_a_right_that_is_missing_and_one_too_many(postgres: Target, database: Database) -> None:
    run(database.url("owner"), "REVOKE INSERT ON transactions FROM fraud_streaming")
    assert "fraud_streaming has no right to INSERT on transactions" in sentence(
        databases.check_rights, postgres, "postgres"
    )
    run(database.url("owner"), "GRANT INSERT ON transactions TO fraud_streaming, fraud_readonly")
    assert "fraud_readonly may do INSERT on transactions" in sentence(
        databases.check_rights, postgres, "postgres"
    )
    run(database.url("owner"), "REVOKE INSERT ON transactions FROM fraud_readonly")
    run(database.url("owner"), "GRANT CREATE ON SCHEMA public TO fraud_api")
    assert "fraud_api may do more than its tables" in sentence(databases.check_rights, postgres, "postgres")


def test_a_role_of_a_newer_installation_is_missing(postgres: Target, database: Database) -> None:
    run(database.url("admin"), "ALTER ROLE fraud_grafana RENAME TO elsewhere")
    try:
        assert "The role fraud_grafana does not exist." in sentence(
            databases.check_rights, postgres, "postgres"
        )
    finally:
        run(database.url("admin"), "ALTER ROLE elsewhere RENAME TO fraud_grafana")


@pytest.fixture
def kafka(topics: KafkaSettings) -> Target:
    port = int(topics.kafka_bootstrap_servers.rpartition(":")[2])
    return Target("demo", True, {"KAFKA_TOPIC": topics.topic}, {"kafka": port})


def test_kafka_s_broker_and_topics(kafka: Target) -> None:
    assert "answers" in stores.check_broker(kafka)
    assert kafka.kafka.dlq_topic in stores.check_topics(kafka)
    other = with_secret(kafka, "KAFKA_TOPIC", "nobody-made-it-transactions")
    text = sentence(stores.check_topics, other, "kafka")
    assert "nobody-made-it-labels" in text
    assert "topics --create" in text
    for check in (stores.check_broker, stores.check_topics):
        assert "Kafka cannot be reached" in sentence(check, stopped(kafka, "kafka"), "kafka")


def test_what_listens_there_is_not_a_broker(kafka: Target, postgres: Target) -> None:
    other = replace(kafka, ports={"kafka": postgres.ports["postgres"]})
    assert "Kafka cannot be reached" in sentence(stores.check_broker, other, "kafka")


def target_of(server: ObjectStoreServer) -> Target:
    settings = {variable: server.bucket_secret(bucket) for bucket, variable in stores.SECRETS.items()}
    return Target("demo", True, settings, {"object store": server.port})


@pytest.fixture
def store(object_store_server: ObjectStoreServer) -> Target:
    return target_of(object_store_server)


def test_the_object_store_and_its_permissions(store: Target) -> None:
    assert "write, read, list and remove" in stores.check_buckets(store)
    assert "nobody" in stores.check_permissions(store)
    text = sentence(stores.check_buckets, with_secret(store, "MLFLOW_AWS_SECRET_ACCESS_KEY"), "object store")
    assert "Restore MLFLOW_AWS_SECRET_ACCESS_KEY" in text
    for check in (stores.check_buckets, stores.check_permissions):
        text = sentence(check, stopped(store, "object store"), "object store")
        assert "does not answer" in text


def test_a_key_that_may_do_more_than_it_must(own_object_store: ObjectStoreServer) -> None:
    """A bucket's key that is not confined to its bucket."""
    path = own_object_store.place / "identities.json"
    document = json.loads(path.read_text())
    [identity] = [one for one in document["identities"] if one["name"] == constants.BUCKET_RUNS]
    identity["actions"] = [action.partition(":")[0] for action in identity["actions"]]
    path.write_text(json.dumps(document))
    with running_store(own_object_store):
        assert "may write to the bucket fraud-mlflow" in sentence(
            stores.check_permissions, target_of(own_object_store), "object store"
        )


@pytest.fixture
def mlflow(mlflow_uri: str, stack: Stack) -> Target:
    assert mlflow_uri
    return Target("demo", True, dict(stack.mlflow.users), {"mlflow": stack.mlflow.port})


def test_mlflow_s_health_log_ins_and_host(mlflow: Target, kafka_bootstrap: str) -> None:
    assert "healthy" in web.check_mlflow(mlflow)
    assert "nobody without a log-in" in web.check_mlflow_users(mlflow)
    assert "refuses foreign host names" in web.check_mlflow_host(mlflow)
    text = sentence(web.check_mlflow_users, with_secret(mlflow, "MLFLOW_TRAINER_PASSWORD"), "mlflow")
    assert "MLFLOW_TRAINER_PASSWORD in .env is not its password" in text
    for check in (web.check_mlflow, web.check_mlflow_users, web.check_mlflow_host):
        assert "does not answer" in sentence(check, stopped(mlflow, "mlflow"), "mlflow")


@pytest.fixture
def api(database: Database, topics: KafkaSettings, tmp_path: Path) -> Iterator[tuple[Target, ApiServer]]:
    kafka = {"KAFKA_BOOTSTRAP_SERVERS": topics.kafka_bootstrap_servers, "KAFKA_TOPIC": topics.topic}
    with scoring_server(database, tmp_path, extra=kafka) as server:
        secrets = {services.client_secret(client): CLIENTS[client] for client in constants.API_CLIENTS}
        yield Target("demo", True, secrets, {"api": server.port}), server


def test_the_api_s_readiness_and_tokens(api: tuple[Target, ApiServer], database: Database) -> None:
    target, _ = api
    assert "is ready with model version 7" in web.check_api(target)
    assert "none for a wrong secret" in web.check_tokens(target)
    text = sentence(web.check_tokens, with_secret(target, "API_CLIENT_SECRET_STREAMING"), "api")
    assert "API_CLIENT_SECRET_STREAMING in .env is not its secret" in text
    for check in (web.check_api, web.check_tokens):
        assert "does not answer" in sentence(check, stopped(target, "api"), "api")


def test_an_api_without_its_topic_is_not_ready(
    database: Database, kafka_bootstrap: str, tmp_path: Path
) -> None:
    kafka = {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap, "KAFKA_TOPIC": "nobody-made-it"}
    with scoring_server(database, tmp_path, extra=kafka) as server:
        text = sentence(web.check_api, Target("demo", True, {}, {"api": server.port}), "api")
    assert "The scoring API is not ready: topic is missing" in text


def test_a_missing_secret_is_named() -> None:
    with pytest.raises(Problem, match=r"DB_PASSWORD_API is not set in \.env"):
        Target("demo", True, {}, {"postgres": 1}).database_url("api")


def test_a_failure_of_an_adapter_keeps_its_sentence(postgres: Target) -> None:
    with pytest.raises(JobFailed):
        databases.check_rights(stopped(postgres, "postgres"))
