"""Every DAG succeeds with a run in the running stack."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config import constants
from config.constants import DAG_BATCH, DAG_CANARY, DAG_CANARY_HTTP
from tests.stack.stack import JOB_FILTER, ROOT, Stack, wait_for
from tests.support.api_server import creditcard

DAGS = sorted(path.stem for path in (ROOT / "airflow" / "dags").glob("[0-9]*.py"))
# A person says what these work on. The first two have tests of their own here, the last one in tests/dags.
ASKING = {DAG_BATCH, DAG_CANARY, DAG_CANARY_HTTP}
TRIGGERED = [dag for dag in DAGS if dag not in ASKING]
ENDED = {"success", "failed"}
SECONDS = 240
TRAINING_SECONDS = 600
TRAINING = constants.DAG_TRAINING
TRAINING_STEPS = (
    "load_training_data",
    "feature_engineering",
    "train_models",
    "validate",
    "register_mlflow",
)


def test_every_dag_file_is_read(stack: Stack) -> None:
    airflow = stack.airflow()
    assert airflow.import_errors() == {}
    assert [dag for dag in DAGS if not airflow.known(dag)] == []


@pytest.fixture(scope="module")
def runs(stack: Stack) -> dict[str, str]:
    """A run of each DAG that needs no person's word, all started at once: DAG → id of its run."""
    airflow = stack.airflow()
    return {dag: airflow.trigger(dag) for dag in TRIGGERED}


@pytest.mark.parametrize("dag", TRIGGERED)
def test_a_triggered_run_succeeds(stack: Stack, runs: dict[str, str], dag: str) -> None:
    airflow, run = stack.airflow(), runs[dag]

    def state() -> str:
        return next(one.state for one in airflow.runs(dag) if one.run_id == run)

    wait_for(lambda: state() in ENDED, SECONDS, lambda: f"{state()}: {airflow.tasks(dag, run)}")
    tasks = airflow.tasks(dag, run)
    logs = {task: airflow.log(dag, run, task) for task, ended in tasks.items() if ended == "failed"}
    assert state() == "success", logs
    assert set(tasks.values()) <= {"success", "skipped"}


def test_the_api_starts_a_training_in_containers_and_a_killed_step_is_tried_again(stack: Stack) -> None:
    """The container that registers is killed as soon as it is there: its retry finishes the same version."""
    before, airflow = versions(stack), stack.airflow()
    known = set(stack.jobs())
    with stack.client("admin") as client:
        started = client.post("/train", json={"force": True})
        assert started.status_code == 202, started.text
        link, run = started.json()["link"], started.json()["run_id"]
        task = TRAINING_STEPS[-1]

        def container() -> str | None:
            for one in set(stack.jobs()) - known:
                [details] = stack.inspect(one)
                labels = details["Config"]["Labels"]
                if (labels["fraud.run_id"], labels["fraud.task_id"]) == (run, task):
                    return one
            return None

        def training() -> dict[str, Any]:
            status: dict[str, Any] = client.get(link).json()
            return status

        wait_for(lambda: container() is not None, TRAINING_SECONDS, lambda: str(airflow.tasks(TRAINING, run)))
        killed = container()
        assert killed is not None
        stack.run("docker", "kill", killed)
        wait_for(lambda: training()["state"] in ENDED, TRAINING_SECONDS, lambda: str(training()))
        ended = training()
    assert (ended["state"], ended["reason"]) == ("success", "Retrain: it was asked for."), (
        ended,
        airflow.log(TRAINING, run, task),
    )
    assert "which passed its gate" in ended["outcome"]
    tasks = airflow.tasks(TRAINING, run)
    assert tasks["skip_training"] == "skipped"
    assert {tasks[step] for step in TRAINING_STEPS} == {"success"}
    assert versions(stack) == before + 1


def test_the_training_dag_skips_as_its_page_starts_it(stack: Stack) -> None:
    """By the request of Airflow's *Trigger* form; the training before it has just finished."""
    airflow = stack.airflow()
    run = airflow.trigger(TRAINING, {"force": False})

    def state() -> str:
        return next(one.state for one in airflow.runs(TRAINING) if one.run_id == run)

    wait_for(lambda: state() in ENDED, SECONDS, lambda: f"{state()}: {airflow.tasks(TRAINING, run)}")
    tasks = airflow.tasks(TRAINING, run)
    assert state() == "success", tasks
    assert tasks["skip_training"] == "success"
    assert {tasks[step] for step in TRAINING_STEPS} == {"skipped"}


def versions(stack: Stack) -> int:
    [[count]] = stack.psql("SELECT count(*) FROM model_versions")
    return int(count)


def test_an_interval_is_scored_in_a_container(stack: Stack) -> None:
    """The last hour's transactions, by the champion; started as the web UI's form starts it."""
    airflow = stack.airflow()
    start = datetime.now(UTC) - timedelta(hours=1)
    body = {"logical_date": None, "conf": {"data_from": start.isoformat()}}
    run = str(airflow._call("POST", f"/api/v2/dags/{DAG_BATCH}/dagRuns", body)["dag_run_id"])

    def state() -> str:
        return next(one.state for one in airflow.runs(DAG_BATCH) if one.run_id == run)

    wait_for(lambda: state() in ENDED, SECONDS, lambda: f"{state()}: {airflow.tasks(DAG_BATCH, run)}")
    assert state() == "success", airflow.log(DAG_BATCH, run, "run_batch_prediction")
    assert "transactions scored by version" in airflow.log(DAG_BATCH, run, "log_batch_completion")


def test_a_version_gets_traffic_and_is_stopped(stack: Stack) -> None:
    """An earlier version is checked and served to some cards; a person stops it, and the run ends."""
    airflow = stack.airflow()
    [[version]] = stack.psql(
        "SELECT max(version::int) FROM model_versions WHERE gate_passed AND version::int <"
        " (SELECT max(version::int) FROM model_versions WHERE gate_passed)"
    )
    body = {"logical_date": None, "conf": {"version": version}}
    run = str(airflow._call("POST", f"/api/v2/dags/{DAG_CANARY}/dagRuns", body)["dag_run_id"])

    def state() -> str:
        return next(one.state for one in airflow.runs(DAG_CANARY) if one.run_id == run)

    with stack.client("admin") as client:

        def release() -> dict[str, Any]:
            found = [one for one in client.get("/deployments").json()["deployments"] if one["run_id"] == run]
            return found[0] if found else {}

        def gets_traffic() -> bool:
            assert state() not in ENDED, airflow.log(DAG_CANARY, run, "validate_new_model")
            return release().get("state") == "canary"

        wait_for(gets_traffic, SECONDS, lambda: f"{release()}: {airflow.tasks(DAG_CANARY, run)}")
        number = release()["deployment_id"]
        assert release()["version"] == version
        assert client.get(f"/deployments/{number}").json()["findings"]["checks"]
        served = "SELECT count(*) FROM predictions WHERE role = 'canary' AND model_version = "
        wait_for(lambda: stack.psql(f"{served}'{version}'") != [["0"]], SECONDS, lambda: str(release()))
        answer = client.post(f"/deployments/{number}/abort", json={"reason": "The test has seen enough."})
        assert answer.json()["state"] == "aborted"
        wait_for(lambda: state() in ENDED, SECONDS, lambda: f"{state()}: {airflow.tasks(DAG_CANARY, run)}")
        assert client.post("/predict", json=creditcard()).json()["model_version"] != version
    tasks = airflow.tasks(DAG_CANARY, run)
    assert {tasks[task] for task in ("validate_new_model", "deploy_canary")} == {"success"}
    assert tasks["increase_traffic"] == "skipped"


def test_jobs_run_in_containers(stack: Stack) -> None:
    """The containers of a run, listed by Docker itself."""
    airflow = stack.airflow()
    run = next(one for one in airflow.runs("00_transaction_producer") if one.state == "success")
    assert run.started is not None
    span = ["--since", str(int(run.started.timestamp())), "--until", str(int(time.time()) + 1)]
    form = ["--filter", "event=start", "--filter", JOB_FILTER, "--format", "{{json .Actor.Attributes}}"]
    started = [json.loads(line) for line in stack.run("docker", "events", *span, *form).splitlines()]
    [job] = [one for one in started if one["fraud.run_id"] == run.run_id]
    assert (job["fraud.task_id"], job["image"]) == ("generate_transactions", "fraud-detection/jobs:local")


def test_no_container_of_a_job_is_left(stack: Stack) -> None:
    """A container is removed when its task ends; no new one starts while the DAGs are paused."""
    airflow = stack.airflow()
    for dag in DAGS:
        airflow.pause(dag, True)
    try:
        wait_for(lambda: not stack.jobs(), 120, lambda: f"left: {stack.jobs()}")
    finally:
        for dag in DAGS:
            airflow.pause(dag, False)


def test_what_is_produced_is_stored(stack: Stack) -> None:
    """The real-time DAGs run by their schedules alone, without triggered runs."""
    before = stack.stored()

    def grown() -> bool:
        now = stack.stored()
        return all(now[name] >= before[name] + 50 for name in before)

    wait_for(grown, SECONDS, lambda: f"{before} → {stack.stored()}")
