"""The release DAG: which way it goes, what its jobs are told, and what becomes of a run whose steps fail."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.providers.common.compat.sdk import DownstreamTasksSkipped
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from fraud_airflow import release
from fraud_airflow.conf import conf_problem
from hooks.api_hook import FraudApiHook
from operators.branch_operator import FraudDockerBranchOperator
from operators.docker_operator_custom import FraudDockerOperator

DAGS = Path(__file__).resolve().parents[1] / "dags"
DEFAULTS = {name: param.value for name, param in release.PARAMS.items()}
RUN = ["--dag=05_model_deployment_canary", "--run-id=manual__1"]


@pytest.fixture(scope="module")
def dag() -> DAG:
    bag = DagBag(DAGS / "05_model_deployment_canary.py")
    assert bag.import_errors == {}
    made: DAG = bag.dags["05_model_deployment_canary"]
    return made


def render(dag: DAG, task_id: str, **params: Any) -> list[str]:
    """The arguments of a task's job as Airflow renders them."""
    task: Any = dag.get_task(task_id)
    context: Any = {"dag": dag, "run_id": "manual__1", "params": DEFAULTS | params}
    rendered: list[str] = task.render_template(task.command, context)
    assert rendered[:3] == ["python", "-m", "fraud_rollout"]
    return [part for part in rendered[3:] if part]


@pytest.mark.parametrize(
    ("task_id", "params", "arguments"),
    [
        ("validate_new_model", {}, ["validate", *RUN, "--version=challenger"]),
        ("validate_new_model", {"version": "7"}, ["validate", *RUN, "--version=7"]),
        ("deploy_canary", {}, ["deploy", *RUN]),
        ("deploy_canary", {"canary_percent": 5}, ["deploy", *RUN, "--percent=5"]),
        ("evaluate_canary_performance", {}, ["evaluate", *RUN, "--wait"]),
        ("increase_traffic", {"canary_percent": 5}, ["deploy", *RUN]),
        ("increase_traffic", {"widened_percent": 30}, ["deploy", *RUN, "--percent=30"]),
        ("evaluate_canary_performance_50", {}, ["evaluate", *RUN, "--wait"]),
        ("promote_to_production", {}, ["promote", *RUN]),
        ("rollback_to_previous", {}, ["rollback", *RUN]),
    ],
)
def test_every_job_is_told_its_run_and_what_the_form_says(
    dag: DAG, task_id: str, params: dict[str, Any], arguments: list[str]
) -> None:
    assert render(dag, task_id, **params) == arguments


@pytest.mark.parametrize(
    ("conf", "problem"),
    [
        ({}, None),
        ({"version": "12", "canary_percent": 5}, None),
        ({"version": "best"}, "version is neither a version nor an alias"),
        ({"percent": 5}, "The run was given percent, which this DAG does not read"),
    ],
)
def test_what_a_run_is_given_is_checked_before_it_is_created(
    conf: dict[str, Any], problem: str | None
) -> None:
    schemas = {name: param.schema for name, param in release.PARAMS.items()}
    found = conf_problem(conf, schemas, DEFAULTS | conf, datetime(2026, 3, 1, tzinfo=UTC))
    assert (found is None) if problem is None else (found or "").startswith(problem)


class TaskInstance:
    """Keeps what a task stores; `task` is what is skipped by."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.map_index = -1
        self.stored: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.stored[key] = value


def execute(
    dag: DAG, task_id: str, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """What a branch stores, and the tasks that it skips."""
    monkeypatch.setattr(FraudDockerOperator, "execute", lambda _self, _context: result)
    task: Any = dag.get_task(task_id)
    assert isinstance(task, FraudDockerBranchOperator)
    ti: Any = TaskInstance(task)
    skipped: list[Any] = []
    try:
        task.execute({"ti": ti})
    except DownstreamTasksSkipped as ended:
        skipped = [one[0] for one in ended.tasks]
    return ti.stored, skipped


@pytest.mark.parametrize(
    ("task_id", "following", "skipped"),
    [
        ("evaluate_canary_performance", "advance", []),
        ("evaluate_canary_performance", "roll_back", ["increase_traffic"]),
        ("evaluate_canary_performance", "withdraw", ["increase_traffic"]),
        ("evaluate_canary_performance_50", "advance", []),
        ("evaluate_canary_performance_50", "roll_back", ["promote_to_production"]),
    ],
)
def test_the_verdict_chooses_the_branch(
    dag: DAG, task_id: str, following: str, skipped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back is never skipped: where the version is promoted, its job finds nothing to do."""
    result = {"next": following, "sentence": "So it is."}
    stored, found = execute(dag, task_id, result, monkeypatch)
    assert found == skipped
    assert stored["return_value"] == result


def test_a_result_without_a_branch_is_refused(dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AirflowFailException, match="next is 'wait': no branch belongs to it"):
        execute(dag, "evaluate_canary_performance", {"next": "wait"}, monkeypatch)


ANSWER = {"state": "canary", "next": "wait", "window_ends": "x", "extensions": 0, "sentence": "Too few."}


@pytest.mark.parametrize("following", ["wait", "advance", "roll_back", "withdraw"])
def test_the_sensor_asks_the_api_until_the_stage_is_decided(
    dag: DAG, monkeypatch: pytest.MonkeyPatch, following: str
) -> None:
    asked: list[tuple[str, Any]] = []
    answer = ANSWER | {"next": following}

    def post(_hook: FraudApiHook, path: str, document: Any) -> Any:
        asked.append((path, document))
        return answer

    monkeypatch.setattr(FraudApiHook, "post", post)
    sensor: Any = dag.get_task("monitor_canary_metrics")
    assert (sensor.mode, sensor.reschedule, sensor.poke_interval) == ("reschedule", True, 10)
    monkeypatch.setattr(sensor, "deployment_id", "3")
    found = sensor.poke({})
    assert asked == [("/deployments/3/evaluate", {})]
    assert (bool(found), found.xcom_value) == (following != "wait", answer)


def test_the_sensor_fails_where_the_api_refuses(dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    def post(_hook: FraudApiHook, _path: str, _document: Any) -> Any:
        raise AirflowException("The scoring API refuses POST /deployments/3/evaluate: it has no traffic.")

    monkeypatch.setattr(FraudApiHook, "post", post)
    sensor: Any = dag.get_task("monitor_canary_metrics_50")
    monkeypatch.setattr(sensor, "deployment_id", "3")
    with pytest.raises(AirflowException, match="it has no traffic"):
        sensor.poke({})


class _Instance(NamedTuple):
    task_id: str
    state: None


def test_the_way_back_hides_no_failure(dag: DAG) -> None:
    """What decides whether a run failed: the promotion, which any step before it fails, and the alert."""
    tis: Any = [_Instance(task.task_id, None) for task in dag.tasks]
    run = DagRun(dag_id=dag.dag_id, run_id="manual__1")
    run.dag = dag  # type: ignore[assignment]
    decisive = {one.task_id for one in run._tis_for_dagrun_state(dag=dag, tis=tis)}  # type: ignore[no-untyped-call]
    assert decisive == {"promote_to_production", "send_rollback_alert"}


def test_the_alert_is_about_how_the_release_ended(dag: DAG) -> None:
    alert: Any = dag.get_task("send_rollback_alert")
    end = {"title": "Version 7 was rolled back", "text": "Recall fell.", "severity": "high"}
    ti = SimpleNamespace(xcom_pull=lambda task_ids: end if task_ids == "rollback_to_previous" else None)
    context: Any = {"ti": ti, "dag": dag, "run_id": "manual__1"}
    values = [alert.render_template(getattr(alert, name), context) for name in ("title", "text", "severity")]
    assert values == list(end.values())
    assert alert.render_template(alert.key, context) == "05_model_deployment_canary/manual__1"


@pytest.fixture(scope="module")
def http_dag() -> DAG:
    bag = DagBag(DAGS / "05_model_deployment_canary_http.py")
    assert bag.import_errors == {}
    made: DAG = bag.dags["05_model_deployment_canary_http"]
    return made


@pytest.mark.parametrize(
    ("task_id", "params", "arguments"),
    [
        ("validate_new_model", {}, ["validate", "--version=challenger", "--mode=http"]),
        ("check_health", {}, ["check-health"]),
        ("test_endpoints", {}, ["test-endpoints"]),
        ("shadow_mode", {}, ["shadow"]),
        ("compare_shadow", {}, ["evaluate", "--wait"]),
        ("split_traffic", {"canary_percent": 30}, ["deploy", "--percent=30"]),
        ("widen_traffic", {}, ["deploy"]),
        ("promote_to_production", {}, ["promote"]),
        ("rollback_to_previous", {}, ["rollback"]),
    ],
)
def test_over_http_every_job_is_told_its_run(
    http_dag: DAG, task_id: str, params: dict[str, Any], arguments: list[str]
) -> None:
    run = ["--dag=05_model_deployment_canary_http", "--run-id=manual__1"]
    assert render(http_dag, task_id, **params) == [arguments[0], *run, *arguments[1:]]


@pytest.mark.parametrize(
    ("task_id", "skipped"),
    [
        ("compare_shadow", ["split_traffic"]),
        ("compare_metrics", ["widen_traffic"]),
        ("compare_metrics_50", ["promote_to_production"]),
    ],
)
def test_over_http_evidence_against_the_version_leads_back_from_every_stage(
    http_dag: DAG, task_id: str, skipped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, found = execute(http_dag, task_id, {"next": "roll_back", "sentence": "So it is."}, monkeypatch)
    assert found == skipped
