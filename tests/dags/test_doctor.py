"""Doctor's checks of Airflow against the real one: seen to pass, and seen to fail."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from config import constants
from fraud_embedded.doctor.examination import Check, examine
from fraud_embedded.doctor.target import Target
from fraud_embedded.doctor.web import check_airflow, check_dags
from fraud_launcher.findings import Problem, State
from tests.support.airflow_metadata import ROOT
from tests.support.airflow_platform import AirflowPlatform

DAGS = ROOT / "airflow" / "dags"


@pytest.fixture
def target(platform: AirflowPlatform) -> Target:
    server = platform.metadata.server
    return Target("demo", True, {"AIRFLOW_PASSWORD": server.password}, {"airflow": server.port})


def test_airflow_that_is_as_it_should_be(platform: AirflowPlatform, target: Target) -> None:
    paused = [dag_id for dag_id, rests in platform.airflow.dags().items() if rests]
    for dag_id in constants.DAGS_REAL_TIME:
        platform.airflow.pause(dag_id, paused=False)
    assert "is healthy, with scheduler and DAG processor" in check_airflow(target)
    assert "without error" in check_dags(target, DAGS)
    platform.airflow.pause("00_token_renewal", paused=True)
    with pytest.raises(Problem, match="00_token_renewal is paused") as found:
        check_dags(target, DAGS)
    assert found.value.fix == "Let the DAGs run: make unpause."
    for dag_id in constants.DAGS_REAL_TIME:
        platform.airflow.pause(dag_id, paused=dag_id in paused)


def test_a_dag_that_airflow_does_not_know_and_a_wrong_password(target: Target, tmp_path: Path) -> None:
    folder = shutil.copytree(DAGS, tmp_path / "dags")
    (folder / "09_made_up.py").touch()
    with pytest.raises(Problem, match="Airflow does not know 09_made_up"):
        check_dags(target, folder)
    with pytest.raises(Problem, match="refuses the log-in") as found:
        check_dags(replace(target, settings={"AIRFLOW_PASSWORD": "wrong"}), DAGS)
    assert "Restore AIRFLOW_PASSWORD" in found.value.fix


def test_airflow_that_is_stopped(target: Target) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = replace(target, ports={"airflow": free.getsockname()[1]})
    checks = [
        Check("airflow", "health", lambda: check_airflow(away)),
        Check("airflow", "dags", lambda: check_dags(away, DAGS)),
    ]
    for finding in examine(checks, away):
        assert finding.state is State.PROBLEM
        assert "does not answer" in finding.detail
        assert finding.fix
