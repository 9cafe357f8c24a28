"""The training DAG on the real Airflow: both branches, kills, a failed gate, and the API that starts it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config import constants
from fraud_adapters.airflow_runs import AirflowRuns, AirflowUnavailable
from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry import Registry
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_embedded.processes.process import StartFailed
from fraud_producer.drift import drifted
from fraud_producer.population import population
from fraud_producer.simulator import Simulator
from tests.integration.training_installation import RATE, Installation, store_history
from tests.support.airflow_platform import PATIENCE_S, AirflowPlatform, Run
from tests.support.mlflow_users import mlflow_login
from tests.support.monitor_installation import MonitorInstallation, arrived
from tests.support.server_fixtures import bucket_settings
from tests.support.stored_rows import CREDITCARD, START, predictions
from tests.support.waiting import eventually

DAG: Final = constants.DAG_TRAINING
STEPS: Final = {
    "load_training_data": "load",
    "feature_engineering": "features",
    "train_models": "train",
    "validate": "validate",
    "register_mlflow": "register",
}
RELEASE: Final = ("decide_release_branch", "trigger_canary_release", "no_release")
ROWS: Final = 5000
# The first test includes the start of all servers, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def training(platform: AirflowPlatform, mlflow_uri: str) -> Iterator[AirflowPlatform]:
    """The platform with MLflow and labelled history, which is removed afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in mlflow_login("person", platform.stack.mlflow.users).items():
            patch.setenv(name, value)
        moments = [START + timedelta(minutes=minute) for minute in range(ROWS)]
        made = Simulator(CREDITCARD, population(11, RATE, 0.01), timedelta(days=7)).at("history", moments)
        store_history(
            Installation(CREDITCARD, platform.database, mlflow_uri), made.batch, made.labels.tolist()
        )
        assert eventually(lambda: platform.airflow.known(DAG), PATIENCE_S), platform.airflow.import_errors()
        platform.airflow.pause(DAG, paused=False)
        yield platform
    simulated = "SELECT transaction_id FROM transactions WHERE source = 'simulator'"
    platform.rows(f"DELETE FROM predictions WHERE transaction_id IN ({simulated})")
    platform.rows("DELETE FROM transactions WHERE source = 'simulator'")


@pytest.fixture
def api(training: AirflowPlatform) -> Iterator[httpx.Client]:
    with training.api.client("airflow") as client:
        yield client


@pytest.fixture(scope="module")
def first(training: AirflowPlatform) -> Run:
    """A run that the API starts where there is no champion; each step's job is killed once."""
    with training.api.client("airflow") as client:
        started = client.post("/train", json={})
        assert started.status_code == 202, started.text
        run_id = started.json()["run_id"]
        again = client.post("/train")
        assert (again.status_code, again.json()["run_id"]) == (409, run_id)
    run = Run(training, DAG, run_id)
    for task, verb in STEPS.items():
        kill_job(run, verb)
        run.wait_for(task, "up_for_retry")
        run.clear(task)
    return run.succeeded()


def kill_job(run: Run, verb: str) -> None:
    """Kill the run's job of this verb as soon as it is there."""
    jobs: list[psutil.Process] = []

    def found() -> bool:
        for process in psutil.process_iter(["cmdline"]):
            arguments = process.info["cmdline"] or []
            if f"--run-id={run.run_id}" in arguments and verb in arguments:
                jobs.append(process)
        return bool(jobs)

    assert eventually(found, PATIENCE_S), run.tasks
    jobs[0].kill()


def champion(platform: AirflowPlatform) -> str | None:
    with Registry(platform.stack.mlflow.tracking_uri) as registry:
        return registry.version_of_alias(CREDITCARD.registered_model, constants.ALIAS_CHAMPION)


def versions(platform: AirflowPlatform) -> list[tuple[Any, ...]]:
    return platform.rows(
        "SELECT version, gate_passed FROM model_versions WHERE mlflow_run_id IS NOT NULL ORDER BY version"
    )


def test_a_run_whose_jobs_are_killed_makes_one_version_and_says_its_figures(
    training: AirflowPlatform, first: Run, api: httpx.Client
) -> None:
    assert first.tasks == {
        **dict.fromkeys(("check_should_retrain", "decide_training_branch", *STEPS), "success"),
        **dict.fromkeys(("decide_release_branch", "no_release"), "success"),
        **dict.fromkeys(("skip_training", "trigger_canary_release"), "skipped"),
    }
    assert versions(training) == [("1", True)]
    assert champion(training) == "1"
    decided = first.log("decide_training_branch")
    assert "Retrain: there is no champion." in decided
    # Two tries that were killed or cleared come before.
    [line] = [line for line in logged(training, first, "register_mlflow") if "training_finished" in line]
    assert "version=1" in line
    assert "gate_passed=true" in line
    assert "recall=0.9" in line
    path = f"{first.path}/taskInstances/register_mlflow/xcomEntries/return_value"
    result = training.airflow._call("GET", path)["value"]
    figures = (json.loads(result) if isinstance(result, str) else result)["figures"]
    assert (figures["version"], figures["aliases"], figures["rows"]) == ("1", "champion", ROWS)
    status = api.get(f"/train/{first.run_id}").json()
    assert (status["state"], status["retrain"]) == ("success", True)
    assert status["outcome"] == "version 1, which passed its gate"


def logged(platform: AirflowPlatform, run: Run, task: str) -> list[str]:
    """The lines of all tries of a task."""
    paths = (platform.task_logs(run) / f"task_id={task}").rglob("*.log")
    return [line for path in paths for line in path.read_text("utf-8").splitlines()]


def test_without_need_nothing_is_trained(training: AirflowPlatform, first: Run, api: httpx.Client) -> None:
    assert first.state == "success"
    run = training.run(DAG)
    assert run.tasks == {
        **dict.fromkeys(("check_should_retrain", "decide_training_branch", "skip_training"), "success"),
        **dict.fromkeys((*STEPS, *RELEASE), "skipped"),
    }
    assert "Do not retrain: the last training finished 0" in run.log("decide_training_branch")
    [(state, reason)] = training.rows(
        "SELECT state, reason FROM retraining_triggers WHERE source = 'decision' AND run_id = %s", run.run_id
    )
    assert state == "declined"
    status = api.get(f"/train/{run.run_id}").json()
    assert (status["state"], status["retrain"], status["reason"]) == ("success", False, reason)
    assert versions(training) == [("1", True)]


def test_what_a_run_cannot_be_given_makes_no_run(training: AirflowPlatform, api: httpx.Client) -> None:
    before = training.airflow.runs(DAG)
    body = {"data_from": "2026-02-01T00:00:00Z", "data_to": "2026-01-01T00:00:00Z"}
    answer = api.post("/train", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (422, "data_from must be before data_to.")
    with pytest.raises(StartFailed, match="airflow answers 400"):
        training.trigger(DAG, {"forced": True})
    assert training.airflow.runs(DAG) == before


DRIFT: Final = constants.DAG_DRIFT
WATCHED: Final = ("run_drift_monitoring", "parse_drift_results", "decide_next_step")


def score_drifted(platform: AirflowPlatform, n: int) -> None:
    """Store transactions with amounts four times as large, decided by version 1 now."""
    people = drifted(population(11, RATE, 0.01), ["amount-scale=3"])
    moments = [datetime.now(UTC) - timedelta(minutes=1)] * n
    made = Simulator(CREDITCARD, people, timedelta(days=7)).at("drifted", moments)
    flagged = made.labels == 1
    predicted = replace(
        predictions(CREDITCARD, made.batch, "approve", np.where(flagged, 0.97, 0.003).tolist()),
        predicted=flagged,
        model_version="1",
    )
    url = platform.database.url("streaming")
    with closing(connect(url, "test")) as connection, connection, connection.cursor() as cursor:
        store_scored(cursor, CREDITCARD, made.batch, predicted, "simulator")


def test_a_failed_gate_alerts_and_the_champion_stays(
    training: AirflowPlatform, first: Run, api: httpx.Client, tmp_path: Path
) -> None:
    """Labels of which every fourth is wrong, from a file."""
    key = "datasets/noisy.parquet"
    ObjectStore(
        bucket_settings(training.stack.objectstore, constants.BUCKET_RUNS), constants.BUCKET_RUNS
    ).put_file(key, noisy(training, tmp_path / "noisy.parquet"))
    body = {"force": True, "file": f"s3://{constants.BUCKET_RUNS}/{key}"}
    best, before = champion(training), versions(training)
    started = api.post("/train", json=body)
    assert started.status_code == 202, started.text
    run = Run(training, DAG, started.json()["run_id"])
    run.failed()
    assert {task: state for task, state in run.tasks.items() if state == "failed"} == {
        "register_mlflow": "failed"
    }
    alert = training.webhook.wait_for("01_training_pipeline: register_mlflow failed")
    assert "[critical]" in alert
    assert "Gate specification failed: recall" in alert
    assert "try 1." in alert, "a retry would be refused again"
    assert champion(training) == best
    number = str(len(before) + 1)
    assert versions(training) == [*before, (number, False)]
    status = api.get(f"/train/{run.run_id}").json()
    assert (status["state"], status["outcome"]) == ("failed", f"version {number}, which failed its gate")
    assert first.state == "success"


def noisy(platform: AirflowPlatform, path: Path) -> Path:
    """Stored transactions, with a fourth of the labels turned round."""
    label = CREDITCARD.label_field
    assert label is not None
    fields = [field.name for field in CREDITCARD.inputs]
    names = ", ".join(["event_time", "coalesce(class, 0)", *fields])
    rows = platform.rows(f"SELECT {names} FROM transactions WHERE source = 'simulator' LIMIT 2000")
    moments, labels, *columns = zip(*rows, strict=True)
    wrong = np.random.default_rng(1).random(len(rows)) < 0.25
    content = {name: list(map(float, column)) for name, column in zip(fields, columns, strict=True)}
    content |= {label.name: (np.array(labels) ^ wrong).tolist()}
    pq.write_table(pa.table({"event_time": moments, **content}), path)
    return path


# --- the API's user -------------------------------------------------------------------------------

OTHER: Final = "/api/v2/dags/00_token_renewal"
OWN: Final = f"/api/v2/dags/{DAG}"
REFUSED: Final = [
    ("POST", f"{OTHER}/dagRuns", {"logical_date": None}),
    ("GET", f"{OTHER}/dagRuns", None),
    ("GET", OTHER, None),
    ("PATCH", OTHER, {"is_paused": True}),
    ("DELETE", OWN, None),
    ("DELETE", f"{OWN}/dagRuns/RUN", None),
    ("PATCH", f"{OWN}/dagRuns/RUN", {"state": "failed"}),
    ("POST", f"{OWN}/dagRuns/RUN/clear", {"dry_run": False}),
    ("POST", f"{OWN}/clearTaskInstances", {"dry_run": False}),
    ("GET", f"{OWN}/dagRuns/RUN/taskInstances", None),
    ("GET", f"{OWN}/dagRuns/RUN/taskInstances/validate/logs/1", None),
    ("GET", f"{OWN}/dagRuns/RUN/taskInstances/validate/xcomEntries", None),
    ("GET", "/api/v2/connections", None),
    ("GET", "/api/v2/variables", None),
    ("POST", "/api/v2/variables", {"key": "x", "value": "y"}),
    ("GET", "/api/v2/pools", None),
    ("GET", "/api/v2/config", None),
    ("GET", "/api/v2/eventLogs", None),
    ("GET", "/api/v2/importErrors", None),
    ("GET", "/auth/fab/v1/users", None),
    ("GET", "/auth/fab/v1/roles", None),
]


def test_the_apis_user_may_start_and_see_runs_of_this_dag_and_nothing_else(
    training: AirflowPlatform, first: Run
) -> None:
    url = training.metadata.server.url
    login = {"username": constants.AIRFLOW_TRAIN_USER, "password": training.metadata.server.train_password}
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        token = client.post("/auth/token", json=login).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        assert [dag["dag_id"] for dag in client.get("/api/v2/dags").json()["dags"]] == [DAG]
        runs = client.get("/api/v2/dags/~/dagRuns")
        assert {run["dag_id"] for run in runs.json().get("dag_runs", [])} <= {DAG}
        answers = {
            (method, path): client.request(method, path.replace("RUN", first.run_id), json=body).status_code
            for method, path, body in REFUSED
        }
        paused = client.patch(OWN, json={"is_paused": False}).status_code
    assert {key: code for key, code in answers.items() if code not in {401, 403}} == {}
    # The gap that docs/training.md states: whoever may start runs may pause the DAG. Once this is refused,
    # Airflow separates the rights, and the role in initialise.py loses `can_edit`.
    assert paused == 200


def test_without_the_right_to_edit_the_dag_airflow_starts_no_run(training: AirflowPlatform) -> None:
    """Why the role has it: a role with all but that right, on the real Airflow."""
    airflow, password = training.airflow, training.metadata.server.train_password
    rights = [("can_read", "DAG"), ("can_read", "DAG Run"), ("can_create", "DAG Run")]
    actions = [{"action": {"name": act}, "resource": {"name": f"{kind}:{DAG}"}} for act, kind in rights]
    role: dict[str, Any] = {"name": "Starter", "actions": actions}
    airflow._call("POST", "/auth/fab/v1/roles", role)
    user: dict[str, Any] = {
        "username": "starter",
        "first_name": "a",
        "last_name": "b",
        "email": "starter@localhost",
    }
    user |= {"password": password, "roles": [{"name": "Starter"}]}
    airflow._call("POST", "/auth/fab/v1/users", user)
    with httpx.Client(base_url=training.metadata.server.url, trust_env=False, timeout=60) as client:
        login = {"username": "starter", "password": password}
        token = client.post("/auth/token", json=login).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get(OWN).status_code == 200
        assert client.get(f"{OWN}/dagRuns").status_code == 200
        assert client.patch(OWN, json={"is_paused": False}).status_code == 403
        assert client.post(f"{OWN}/dagRuns", json={"logical_date": None}).status_code == 403


def test_what_keeps_the_api_from_airflow_is_named(training: AirflowPlatform) -> None:
    url, user = training.metadata.server.url, constants.AIRFLOW_TRAIN_USER
    for runs, sentence in (
        (AirflowRuns("http://127.0.0.1:1", user, "x", DAG), "does not answer"),
        (AirflowRuns(url, user, "wrong", DAG), f"refuses the log-in of {user}"),
    ):
        with pytest.raises(AirflowUnavailable, match=sentence):
            runs.start("api__1", {})
        runs.close()
    password = training.metadata.server.train_password
    with closing(AirflowRuns(url, user, password, DAG)) as runs:
        assert runs.get("api__never") is None
        runs._token = "expired"
        assert runs.get("api__never") is None, "it logs in again"


def test_a_paused_dag_is_named(training: AirflowPlatform, api: httpx.Client) -> None:
    training.airflow.pause(DAG, paused=True)
    try:
        answer = api.post("/train")
    finally:
        training.airflow.pause(DAG, paused=False)
    assert (answer.status_code, "is paused" in answer.json()["detail"]) == (409, True)


# --- what watches the champion --------------------------------------------------------------------

WATCHING: Final = "06_model_performance_tracking"


def decide_with_champion(platform: AirflowPlatform, rows: int, frauds: int, found: int) -> None:
    """Decisions of the champion an hour ago, with the truth about each."""
    monitor = MonitorInstallation(platform.database)
    prefix = f"w{uuid.uuid4().hex[:6]}"
    scores = np.full(rows, 0.05)
    scores[:found] = 0.7
    past = datetime.now(UTC) - timedelta(hours=1)
    monitor.decide(
        arrived(rows, prefix=prefix, event_time=past), scores=scores, model_version=champion(platform)
    )
    platform.rows(
        "INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at)"
        " SELECT gen_random_uuid(), %s || n, (n < %s)::int, 'analyst', now() - interval '1 min', now()"
        " FROM generate_series(0, %s) n RETURNING 1",
        f"{prefix}-",
        frauds,
        rows - 1,
    )


def test_the_champions_performance_alerts_only_with_enough_labels(
    training: AirflowPlatform, first: Run
) -> None:
    training.airflow.pause(WATCHING, paused=False)
    version = champion(training)
    assert version is not None
    unknown = training.trigger(WATCHING).succeeded()
    assert unknown.tasks["no_action"] == "success"
    assert unknown.tasks["send_performance_alert"] == "skipped"
    decide_with_champion(training, rows=1500, frauds=300, found=120)
    unfit = training.trigger(WATCHING).succeeded()
    assert unfit.tasks["send_performance_alert"] == "success"
    alert = training.webhook.wait_for(f"The model is not fit for service: version {version}")
    assert "[critical]" in alert
    assert "recall 0.4" in alert
    [(value, labels)] = training.rows(
        "SELECT value, labels FROM performance_metrics WHERE run_id = %s AND metric = 'recall' AND part = ''",
        unfit.run_id,
    )
    assert 0.35 < value < 0.45
    assert labels >= 1500
    with MlflowHttp(training.stack.mlflow.tracking_uri) as http:
        asked = {"name": CREDITCARD.registered_model, "version": version}
        answer = http.get("model-versions/get", asked)
    assert answer is not None
    tags = {tag["key"]: tag["value"] for tag in answer["model_version"]["tags"]}
    assert tags["performance"] == "critical"
    assert first.state == "success"


@pytest.mark.proof
def test_drift_alerts_and_starts_a_training_that_takes_its_trigger(
    training: AirflowPlatform, first: Run
) -> None:
    """From drifted transactions to an alert, a training and its gate. The last: it leaves them there."""
    assert first.state == "success"
    assert eventually(lambda: training.airflow.known(DRIFT), PATIENCE_S), training.airflow.import_errors()
    score_drifted(training, 1500)
    training.airflow.pause(DRIFT, paused=False)
    loud = training.run(DRIFT)
    assert loud.tasks == {
        **dict.fromkeys((*WATCHED, "trigger_retraining_dag", "send_drift_alert"), "success"),
        "no_action": "skipped",
        "save_drift_metrics": "success",
    }
    [(severity,)] = training.rows(
        "SELECT severity FROM drift_metrics WHERE kind = 'verdict' AND run_id = %s", loud.run_id
    )
    assert severity in {"high", "critical"}
    alert = training.webhook.wait_for("Drift of ")
    assert f"[{severity}]" in alert
    assert "of the champion's importance" in alert
    assert "A retraining is triggered." in alert
    retrained = Run(training, DAG, f"drift__{loud.run_id}").succeeded()
    assert f"open trigger: drift, {severity}: Drift of " in retrained.log("decide_training_branch")
    [(state, outcome)] = training.rows(
        "SELECT state, details->>'outcome' FROM retraining_triggers WHERE source = 'drift'"
    )
    assert state == "done"
    assert outcome.startswith("version 2, which ")
