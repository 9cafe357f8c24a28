"""The embedded servers keep strangers out and their data in."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

import boto3
import psutil
import psycopg2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from config import constants
from config.settings import KafkaSettings, ObjectStoreSettings
from fraud_embedded.processes import probes
from fraud_embedded.servers import postgres
from fraud_embedded.servers.stack import Stack
from fraud_mlflow.page import DEFAULTS
from tests.support.mlflow_users import mlflow_login

if TYPE_CHECKING:
    from tests.support.servers import Database


def listeners() -> list[tuple[int | None, str, int]]:
    """Process, address and port of everything that listens on this machine."""
    return [
        (connection.pid, connection.laddr[0], connection.laddr[1])
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    ]


def test_every_listener_is_on_the_loopback_address(
    stack: Stack, kafka_bootstrap: str, postgres_admin_url: str
) -> None:
    store = stack.objectstore
    ports = {store.port, *store.internal_ports, stack.broker.port, stack.postgres.port}
    listening = {(address, port) for _, address, port in listeners() if port in ports}
    assert listening == {("127.0.0.1", port) for port in ports}


def test_no_server_listens_on_a_port_it_was_not_given(
    stack: Stack, kafka_bootstrap: str, postgres_admin_url: str
) -> None:
    store = stack.objectstore
    assigned = {store.port, *store.internal_ports, stack.broker.port, stack.postgres.port, stack.mlflow.port}
    # Other tests may have servers of their own: these are the ones that hold what was given.
    pids = {pid for pid, _, port in listeners() if port in assigned}
    elsewhere = {(a, port) for pid, a, port in listeners() if pid in pids and a != "127.0.0.1"}
    assert not elsewhere
    assert {port for pid, _, port in listeners() if pid in pids} <= assigned


@pytest.mark.parametrize("password", ["", "wrong"])
def test_postgres_refuses_a_wrong_password(stack: Stack, postgres_admin_url: str, password: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match=r"password authentication failed|no password"):
        psycopg2.connect(stack.postgres.url(password=password), passfile="/nonexistent")


def test_postgres_trusts_no_connection(postgres_admin_url: str) -> None:
    with psycopg2.connect(postgres_admin_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules")
        assert cursor.fetchall() == [("scram-sha-256",)]
        cursor.execute("SHOW unix_socket_directories")
        assert cursor.fetchone() == ("",)
    connection.close()


def test_the_data_belongs_to_the_account_alone(stack: Stack, postgres_admin_url: str) -> None:
    assert stack.postgres.place.stat().st_mode & 0o077 == 0
    assert not list(stack.postgres.place.glob("*.password"))


def test_preparing_again_keeps_the_data(stack: Stack, postgres_admin_url: str) -> None:
    before = (stack.postgres.data / "PG_VERSION").stat().st_mtime_ns
    postgres.prepare(stack.postgres)
    assert (stack.postgres.data / "PG_VERSION").stat().st_mtime_ns == before


def test_the_object_store_refuses_strangers(object_store: ObjectStoreSettings) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=object_store.endpoint_url,
        aws_access_key_id=object_store.aws_access_key_id,
        aws_secret_access_key="wrong",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(ClientError, match=r"SignatureDoesNotMatch|AccessDenied|Forbidden"):
        client.list_objects_v2(Bucket=constants.BUCKET_RUNS)
    assert not probes.http_ok(object_store.s3_endpoint_url.port or 0, f"/{constants.BUCKET_RUNS}/ready")


def test_a_client_gets_at_its_own_bucket_only(object_store: ObjectStoreSettings) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=object_store.endpoint_url,
        aws_access_key_id=object_store.aws_access_key_id,
        aws_secret_access_key=object_store.aws_secret_access_key.get_secret_value(),
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )
    client.put_object(Bucket=constants.BUCKET_RUNS, Key="mine", Body=b"1")
    assert client.list_objects_v2(Bucket=constants.BUCKET_RUNS)["KeyCount"] > 0
    for other in (constants.BUCKET_BROKER, constants.BUCKET_MLFLOW):
        with pytest.raises(ClientError, match=r"AccessDenied|Forbidden"):
            client.list_objects_v2(Bucket=other)
        with pytest.raises(ClientError, match=r"AccessDenied|Forbidden"):
            client.put_object(Bucket=other, Key="x", Body=b"1")
        with pytest.raises(ClientError, match=r"AccessDenied|Forbidden"):
            client.delete_bucket(Bucket=other)


def test_the_stores_inner_doors_are_closed(stack: Stack, object_store: ObjectStoreSettings) -> None:
    volume_http = stack.objectstore.internal_ports[2]
    filer_http = stack.objectstore.internal_ports[4]
    assert not probes.http_ok(filer_http, f"/buckets/{constants.BUCKET_RUNS}/ready")
    assert not probes.http_ok(volume_http, "/1,0100000000")


def test_no_secret_is_in_the_list_of_processes(
    stack: Stack, kafka_bootstrap: str, postgres_admin_url: str
) -> None:
    secrets = {stack.postgres.password, stack.objectstore.secret_key}
    commands = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # also a zombie: it has ended since it was listed
            commands.append(" ".join(child.cmdline()))
    assert commands
    assert not [c for c in commands if any(secret in c for secret in secrets)]


def authorization() -> dict[str, str]:
    """The log-in of MLflow's user `person`."""
    user, password = mlflow_login("person").values()
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def test_mlflow_answers_its_own_names_only(stack: Stack, mlflow_uri: str) -> None:
    def status(host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", stack.mlflow.port, timeout=10)
        connection.request(
            "GET",
            "/api/2.0/mlflow/experiments/get?experiment_id=0",
            headers={"Host": host, **authorization()},
        )
        answer = connection.getresponse().status
        connection.close()
        return answer

    assert status(f"127.0.0.1:{stack.mlflow.port}") == 200
    assert status(f"localhost:{stack.mlflow.port}") == 200
    assert status("evil.example") == 403


def test_mlflow_reports_nothing_and_its_page_opens_on_model_training(mlflow_uri: str) -> None:
    def fetched(path: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{mlflow_uri}{path}", headers=authorization())  # noqa: S310
        with opener.open(request, timeout=10) as answer:
            return bytes(answer.read())

    assert json.loads(fetched("/ajax-api/3.0/mlflow/ui-telemetry"))["disable_ui_telemetry"] is True
    assert json.dumps(DEFAULTS).encode() in fetched("/")


def test_fixtures_give_each_test_its_own_topics(topics: KafkaSettings, kafka_bootstrap: str) -> None:
    assert topics.bootstrap_servers == [kafka_bootstrap]
    assert topics.labels_topic.startswith("test-")


def test_a_database_is_migrated_and_reachable_by_every_role(database: Database) -> None:
    for role in ("owner", *constants.SERVICE_ROLES, "admin"):
        connection = psycopg2.connect(database.url(role))
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database(), to_regclass('transactions') IS NOT NULL")
            assert cursor.fetchone() == (database.name, True)
        connection.close()
