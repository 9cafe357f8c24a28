"""`POST /train` and `GET /train/{run_id}` without servers: what is asked of Airflow, and what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient, Response

from fraud_adapters.airflow_runs import AirflowUnavailable, ConfRefused, DagRun, RunNotPossible
from fraud_adapters.postgres.retraining_triggers import StoredDecision
from fraud_api.service import now
from fraud_api.training_runs import TrainingRuns
from tests.support.api_application import Application


@dataclass
class Airflow:
    """The runs of the DAG, in memory."""

    error: Exception | None = None
    started: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def start(self, run_id: str, conf: Mapping[str, Any]) -> DagRun:
        if self.error is not None:
            raise self.error
        self.started[run_id] = conf
        return DagRun(run_id, "queued", None, None)

    def get(self, run_id: str) -> DagRun | None:
        if self.error is not None:
            raise self.error
        return DagRun(run_id, "running", "2026-03-01T02:00:00Z", None) if run_id in self.started else None

    def close(self) -> None:
        pass


class Decisions:
    """The table of decisions, with one for every run."""

    def run(self, _work: Any) -> StoredDecision:
        return StoredDecision(True, "Retrain: it was asked for.", None)


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture
def application(tmp_path: Path, airflow: Airflow) -> Application:
    application = Application.create(tmp_path)
    decisions: Any = Decisions()
    application.service.trainings = TrainingRuns(airflow, decisions, now)
    return application


def post(application: Application, body: Any = None, *, scope: str = "train") -> Response:
    headers = {"Authorization": f"Bearer {application.token([scope])}"}
    transport = ASGITransport(application.app, raise_app_exceptions=False)

    async def exchange() -> Response:
        async with AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
            return await client.post("/train", **({} if body is None else {"json": body}))

    return asyncio.run(exchange())


def test_a_training_is_started_with_a_link_to_ask_how_it_stands(
    application: Application, airflow: Airflow
) -> None:
    answer = post(application)
    assert answer.status_code == 202, answer.text
    training = answer.json()
    assert airflow.started == {training["run_id"]: {"force": False}}
    assert training["run_id"].startswith("api__20")
    assert answer.headers["location"] == training["link"] == f"/train/{training['run_id']}"
    status = application.request("GET", training["link"], "train")
    assert status.json() == {
        **training,
        "state": "running",
        "started_at": "2026-03-01T02:00:00Z",
        "retrain": True,
        "reason": "Retrain: it was asked for.",
        "outcome": None,
    }


def test_what_to_train_on_is_handed_on(application: Application, airflow: Airflow) -> None:
    body = {
        "force": True,
        "as_of": "2026-02-28T00:00:00Z",
        "data_from": "2026-01-01T01:00:00+01:00",
        "data_to": None,
        "kafka_from": 7,
        "kafka_to": "2026-01-01T01:00:00+01:00",
    }
    assert post(application, body).status_code == 202
    (conf,) = airflow.started.values()
    assert conf == {
        "force": True,
        "as_of": "2026-02-28T00:00:00Z",
        "data_from": "2026-01-01T00:00:00Z",
        "kafka_from": "7",
        "kafka_to": "2026-01-01T00:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"force": 1}, "body.force"),
        ({"force": "true"}, "body.force"),
        ({"as_of": "yesterday"}, "body.as_of"),
        ({"as_of": "2026-01-01T00:00:00"}, "body.as_of"),
        ({"as_of": 1}, "body.as_of"),
        ({"kafka_from": -1}, "body.kafka_from"),
        ({"kafka_to": True}, "body.kafka_to"),
        ({"file": "/etc/passwd"}, "body.file"),
        ({"file": "s3://other/rows.csv"}, "body.file"),
        ({"dag": "00_transaction_producer"}, "body.dag"),
        ([1], "body"),
    ],
)
def test_what_it_does_not_take_is_422(
    application: Application, airflow: Airflow, body: Any, field: str
) -> None:
    answer = post(application, body)
    assert answer.status_code == 422
    assert field in answer.json()["detail"]
    assert airflow.started == {}


def test_another_scope_starts_nothing(application: Application, airflow: Airflow) -> None:
    assert post(application, scope="admin").status_code == 403
    assert airflow.started == {}


@pytest.mark.parametrize(
    ("error", "status", "member"),
    [
        (RunNotPossible("A training is running already.", "scheduled__1"), 409, "scheduled__1"),
        (RunNotPossible("The DAG is paused."), 409, None),
        (ConfRefused("data_from must be before data_to."), 422, None),
        (AirflowUnavailable("Airflow at http://x does not answer."), 503, None),
    ],
)
def test_what_is_in_the_way_is_named(
    application: Application, airflow: Airflow, error: Exception, status: int, member: str | None
) -> None:
    airflow.error = error
    answer = post(application)
    assert (answer.status_code, answer.json()["detail"]) == (status, str(error))
    assert answer.json().get("run_id") == member
    if status == 503:
        assert application.request("GET", "/train/api__1", "train").status_code == 503


def test_an_unknown_run_is_404_and_an_impossible_one_422(application: Application) -> None:
    assert application.request("GET", "/train/api__1", "train").status_code == 404
    assert application.request("GET", "/train/a%20b", "train").status_code == 422


def test_without_a_password_for_airflow_it_says_so(tmp_path: Path) -> None:
    application = Application.create(tmp_path)
    for answer in (post(application), application.request("GET", "/train/api__1", "train")):
        assert answer.status_code == 503
        assert "AIRFLOW_TRAIN_PASSWORD is not set" in answer.json()["detail"]
