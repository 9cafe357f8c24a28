"""The operations commands of the specification, run literally."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator

import pytest

from config import constants
from fraud_launcher.image_builds import labels
from tests.stack.stack import ROOT, Stack

PSQL = "docker exec fraud-postgres psql -U fraud_user -d fraud_detection -c"
COMPOSE = "docker compose -f docker-compose.local.yml"
# Command → a part of its output.
COMMANDS = {
    f'{PSQL} "SELECT COUNT(*) as total, MAX(ingestion_timestamp) as last_insert FROM transactions;"': (
        r"total\s+\|\s+last_insert[^1-9]+[1-9]\d*"
    ),
    f'{PSQL} "SELECT COUNT(*) as total_predictions, '
    'SUM(CASE WHEN is_fraud_predicted THEN 1 ELSE 0 END) as frauds_detected FROM predictions;"': (
        r"total_predictions\s+\|\s+frauds_detected[^1-9]+[1-9]\d*"
    ),
    f'{PSQL} "SELECT * FROM drift_metrics ORDER BY detected_at DESC LIMIT 10;"': r"detected_at",
    f'{PSQL} "SELECT * FROM retraining_triggers ORDER BY triggered_at DESC LIMIT 5;"': r"triggered_at",
    "docker compose ps": r"fraud-airflow-worker",
    "docker compose logs --tail=20 airflow-worker": r"airflow-worker",
    f"{COMPOSE} ps": r"fraud-airflow-worker",
    f"{COMPOSE} logs --tail=20 airflow-scheduler": r"airflow-scheduler",
    f"{COMPOSE} logs --tail=20 airflow-worker": r"airflow-worker",
    f"{COMPOSE} logs --tail=20 airflow-webserver": r"airflow-webserver",
    "docker exec fraud-airflow-scheduler airflow dags list": r"00_transaction_producer",
    "docker exec fraud-airflow-scheduler airflow dags list-runs -d 00_transaction_producer --state success": (
        r"00_transaction_producer.*success"
    ),
    "docker exec fraud-airflow-scheduler airflow dags list-runs 00_transaction_producer --state success": (
        r"00_transaction_producer.*success"
    ),
    "docker exec fraud-airflow-scheduler airflow dags list-import-errors": r"No data found",
    "docker exec fraud-airflow-scheduler python3 -c "
    "\"from config import constants; print(constants.ENV_VARS.get('DB_HOST'))\"": r"^postgres$",
    "docker exec fraud-airflow-scheduler python3 -c "
    "\"from config import constants; print(constants.ENV_VARS.get('DATABASE_URL'))\"": (
        r"^postgresql://fraud_readonly:[^@/\s]+@postgres:5432/fraud_detection$"
    ),
    "docker exec fraud-airflow-worker python3 -c "
    "\"from config import constants; print(constants.ENV_VARS.get('DATABASE_URL'))\"": (
        r"^postgresql://fraud_readonly@postgres:5432/fraud_detection$"
    ),
    "docker exec fraud-airflow-worker python3 -c "
    "\"import os; print(os.getenv('AIRFLOW__CELERY__BROKER_URL'))\"": r"^redis://",
    "docker logs fraud-airflow-worker --tail=50": r"",
}
# This address allows reading the platform's tables, and nothing else.
READS = """
import psycopg2
from config import constants
with psycopg2.connect(constants.ENV_VARS["DATABASE_URL"]) as connection, connection.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM transactions")
    print(cursor.fetchone()[0] > 0)
    try:
        cursor.execute("SET default_transaction_read_only = off; DELETE FROM transactions")
    except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.ReadOnlySqlTransaction):
        print("refused")
"""
pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def whole(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bare `up -d` starts every service, so another image replaces Grafana's if that is not available.
    Images are labelled as `./fraud build` labels them, so that `--build` finds nothing to replace.
    """
    for name, value in labels(ROOT).items():
        monkeypatch.setenv(name, value)
    if "grafana" in stack.harness.omitted:
        monkeypatch.setenv("GRAFANA_IMAGE", "fraud-detection/base:offline")
    yield
    if stack.harness.omitted:
        stack.run(*shlex.split("docker compose rm -sf"), *stack.harness.omitted)
    stack.wait_healthy(600)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_specification(stack: Stack, command: str) -> None:
    output = stack.run(*shlex.split(command), seconds=180)
    assert re.search(COMMANDS[command], output, re.DOTALL | re.MULTILINE), output[-3000:]


def test_a_dag_is_tried_from_the_command_line(stack: Stack) -> None:
    command = "docker exec fraud-airflow-scheduler airflow dags test 00_transaction_producer 2025-11-04"
    before = stack.psql("SELECT count(*) FROM transactions")
    output = stack.run(*shlex.split(command), seconds=240)
    assert "state=success" in output or "success" in output.lower(), output[-3000:]
    assert before


def test_the_worker_is_restarted(stack: Stack) -> None:
    stack.run(*shlex.split(f"{COMPOSE} restart airflow-worker"), seconds=240)
    stack.wait_working("airflow-worker")


def test_a_dag_may_read_the_tables_and_change_none(stack: Stack) -> None:
    assert stack.python("fraud-airflow-scheduler", READS).split() == ["True", "refused"]


@pytest.mark.usefixtures("whole")
def test_up_without_a_file_means_the_stack_that_runs(stack: Stack) -> None:
    before = {name: one["Id"] for name, one in stack.containers().items()}
    stack.run(*shlex.split("docker compose up -d"), seconds=420)
    after = {name: one["Id"] for name, one in stack.containers().items()}
    assert {name: after.get(name) for name in before} == before
    assert set(after) - set(before) == set(stack.harness.omitted)


@pytest.mark.usefixtures("whole")
def test_flower_under_its_profile(stack: Stack) -> None:
    assert "COMPOSE_FILE" not in os.environ, "the file must come from .env"
    stack.run(*shlex.split("docker compose --profile flower up -d --build"), seconds=600)
    try:
        stack.wait_working("flower")
        assert "fraud-flower" in stack.run(*shlex.split("docker compose --profile flower ps"))
    finally:
        stack.run(*shlex.split("docker compose --profile flower rm -sf flower"))


@pytest.mark.parametrize("dag", constants.DAGS_REAL_TIME)
def test_a_dag_is_unpaused_from_the_command_line(stack: Stack, dag: str) -> None:
    assert stack.airflow().paused(dag)
    stack.run(*shlex.split(f"docker exec fraud-airflow-scheduler airflow dags unpause {dag}"))
    assert not stack.airflow().paused(dag)
