"""The operations commands of the specification, as they stand there."""

from __future__ import annotations

import re
import shlex

import pytest

from config import constants
from tests.stack.stack import Stack

PSQL = "docker exec fraud-postgres psql -U fraud_user -d fraud_detection -c"
COMPOSE = "docker compose -f docker-compose.local.yml"
# Command → what its output must show.
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
    "docker exec fraud-airflow-worker python3 -c "
    "\"import os; print(os.getenv('AIRFLOW__CELERY__BROKER_URL'))\"": r"^redis://",
    "docker logs fraud-airflow-worker --tail=50": r"",
}
pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_specification(stack: Stack, command: str) -> None:
    said = stack.run(*shlex.split(command), seconds=180)
    assert re.search(COMMANDS[command], said, re.DOTALL | re.MULTILINE), said[-3000:]


def test_a_dag_is_tried_from_the_command_line(stack: Stack) -> None:
    command = "docker exec fraud-airflow-scheduler airflow dags test 00_transaction_producer 2025-11-04"
    before = stack.psql("SELECT count(*) FROM transactions")
    said = stack.run(*shlex.split(command), seconds=240)
    assert "state=success" in said or "success" in said.lower(), said[-3000:]
    assert before


def test_the_worker_is_restarted(stack: Stack) -> None:
    stack.run(*shlex.split(f"{COMPOSE} restart airflow-worker"), seconds=240)
    stack.wait_working("airflow-worker")


def test_flower_under_its_profile(stack: Stack) -> None:
    """`--build` is left to the build: here only that the profile starts it."""
    stack.run(*shlex.split(f"{COMPOSE} --profile flower up -d --no-deps flower"), seconds=240)
    try:
        stack.wait_healthy()
        assert stack.inspect("fraud-flower")[0]["State"]["Health"]["Status"] == "healthy"
    finally:
        stack.run(*shlex.split(f"{COMPOSE} --profile flower rm -sf flower"))


@pytest.mark.parametrize("dag", constants.DAGS_REAL_TIME)
def test_a_dag_is_unpaused_from_the_command_line(stack: Stack, dag: str) -> None:
    assert stack.airflow().paused(dag)
    stack.run(*shlex.split(f"docker exec fraud-airflow-scheduler airflow dags unpause {dag}"))
    assert not stack.airflow().paused(dag)
