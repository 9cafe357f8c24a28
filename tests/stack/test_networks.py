"""Only services that must talk can reach each other; allowed connections are tested as a control."""

from __future__ import annotations

import json

import pytest

from tests.stack.stack import Stack

REACH = """
import json, socket
from concurrent.futures import ThreadPoolExecutor

def reached(address):
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=4).close()
    except OSError:
        return False
    return True

addresses = %r
with ThreadPoolExecutor(len(addresses)) as pool:
    print(json.dumps(dict(zip(addresses, pool.map(reached, addresses)))))
"""
# Container → what it must reach, and what it must not reach.
REACHED = {
    "fraud-airflow-worker": (
        ["redis:6379", "docker-proxy:2375", "airflow-webserver:8080", "api:8000"],
        ["postgres:5432", "kafka:9092", "objectstore:8333", "api:8001", "api-metrics:8001"],
    ),
    "fraud-airflow-scheduler": (
        ["postgres:5432", "redis:6379"],
        ["objectstore:8333", "api-metrics:8001"],
    ),
    "fraud-airflow-dag-processor": (
        ["postgres:5432"],
        ["redis:6379", "docker-proxy:2375", "api:8000"],
    ),
    "fraud-airflow-triggerer": (
        ["airflow-webserver:8080"],
        ["redis:6379", "docker-proxy:2375"],
    ),
    "fraud-airflow-watch": (
        ["postgres:5432"],
        ["redis:6379", "docker-proxy:2375"],
    ),
    "fraud-api": (
        ["postgres:5432", "mlflow:5000", "airflow-webserver:8080"],
        ["redis:6379", "docker-proxy:2375"],
    ),
    "fraud-audit": (
        ["postgres:5432"],
        # The API and the object store answer it in the network of their metrics, where it has no credentials.
        ["redis:6379", "docker-proxy:2375", "kafka:9092", "mlflow:5000"],
    ),
    "fraud-mlflow": (
        ["postgres:5432", "objectstore:8333"],
        ["redis:6379", "docker-proxy:2375", "api-metrics:8001"],
    ),
    "fraud-docker-proxy": (
        [],
        ["postgres:5432", "redis:6379", "api:8000", "kafka:9092", "airflow-webserver:8080"],
    ),
}
IN_A_JOB = [
    "docker",
    "run",
    "--rm",
    "-i",
    "--network",
    "fraud-jobs",
    "fraud-detection/jobs:local",
    "python",
    "-",
]
NEVER_IN_A_WORKER = (
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW_DB_PASSWORD",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__CORE__FERNET_KEY",
    "POSTGRES_PASSWORD",
    "AIRFLOW_PASSWORD",
    "AIRFLOW_TRAIN_PASSWORD",
    "DB_PASSWORD_API",
    "DB_PASSWORD_READONLY",
    "DB_PASSWORD_GRAFANA",
    "API_CLIENT_SECRET_ADMIN",
    "API_KEY_ENCRYPTION_SECRET",
)


@pytest.mark.parametrize("container", REACHED)
def test_who_reaches_whom(stack: Stack, container: str) -> None:
    reached, closed = REACHED[container]
    answer = json.loads(stack.python(container, REACH % (reached + closed)))
    assert answer == dict.fromkeys(reached, True) | dict.fromkeys(closed, False)


def test_what_a_job_reaches(stack: Stack) -> None:
    reached = ["postgres:5432", "kafka:9092", "api:8000", "mlflow:5000", "objectstore:8333"]
    closed = ["docker-proxy:2375", "redis:6379", "api:8001", "api-metrics:8001", "airflow-webserver:8080"]
    closed += ["prometheus:9090", "grafana:3000", "alertmanager:9093"]
    answer = json.loads(stack.run(*IN_A_JOB, stdin=REACH % (reached + closed)))
    assert answer == dict.fromkeys(reached, True) | dict.fromkeys(closed, False)


def test_a_job_reaches_nothing_of_another_network_by_address(stack: Stack) -> None:
    """An unresolved name alone would not be a barrier, so addresses are tried too."""
    addresses = []
    for name, port in (("redis", 6379), ("docker-proxy", 2375), ("airflow-webserver", 8080)):
        networks = stack.inspect(f"fraud-{name}")[0]["NetworkSettings"]["Networks"].values()
        addresses += [f"{network['IPAddress']}:{port}" for network in networks]
    answer = json.loads(stack.run(*IN_A_JOB, stdin=REACH % addresses))
    assert answer == dict.fromkeys(addresses, False)


def test_what_a_worker_does_not_know(stack: Stack) -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    environment = json.loads(stack.python("fraud-airflow-worker", program))
    assert [name for name in NEVER_IN_A_WORKER if name in environment] == []
    names = ("AIRFLOW_DB_PASSWORD", "AIRFLOW_JWT_SECRET", "AIRFLOW_FERNET_KEY", "POSTGRES_PASSWORD")
    secrets = [stack.harness.dotenv[name] for name in names]
    assert [name for name, value in environment.items() if any(secret in value for secret in secrets)] == []
