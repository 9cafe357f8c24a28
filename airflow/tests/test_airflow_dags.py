"""Every DAG file: read as Airflow reads it, held to the house rules and to the specified graph."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.pool import Pool
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronTriggerTimetable, TriggerRule
from airflow.sdk.api.datamodels._generated import DagRunType
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables import trigger
from airflow.timetables.base import TimeRestriction

from config import constants
from fraud_airflow.alerting.callbacks import on_failure, on_run_failure, on_success
from fraud_airflow.defaults import from_the_next

FOLDER = Path(__file__).resolve().parents[1]
FILES = sorted((FOLDER / "dags").rglob("*.py"))
EACH = pytest.mark.parametrize("dag_id", [path.stem for path in FILES])
PYTHON, JOB = "PythonOperator", "FraudDockerOperator"
BRANCH, EMPTY = "BranchPythonOperator", "EmptyOperator"
SENSOR, JOB_BRANCH = "ReleaseStageSensor", "FraudDockerBranchOperator"
TRIGGER, ALERT = "TriggerDagRunOperator", "FraudDetectionAlertOperator"


@dataclass(frozen=True)
class Specified:
    """`flow` is the chain of tasks, each with its operator; `rules` what differs from `all_success`.

    `handed` are the edges beside the chain: whose result goes to whom. `instead` are the tasks that a branch
    chooses instead of the rest of the chain: after which task, and its operator.
    """

    schedule: timedelta | str | None
    priority: str
    flow: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    handed: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, tuple[str, str]] = field(default_factory=dict)


SPECIFICATION = {
    "00_transaction_producer": Specified(
        timedelta(seconds=5),
        "real-time",
        {"validate_producer_config": PYTHON, "generate_transactions": JOB, "log_producer_completion": PYTHON},
        {"log_producer_completion": "none_failed"},
    ),
    "00_realtime_streaming": Specified(
        timedelta(seconds=10),
        "real-time",
        {
            "validate_streaming_config": PYTHON,
            "run_streaming_prediction": JOB,
            "log_streaming_completion": PYTHON,
        },
        {"log_streaming_completion": "none_failed"},
    ),
    "00_token_renewal": Specified(
        "0 0 * * *",
        "security",
        {
            "validate_token_config": PYTHON,
            "renew_api_token": PYTHON,
            "verify_api_token": PYTHON,
            "log_token_renewal": PYTHON,
        },
        {"log_token_renewal": "none_failed"},
        {"renew_api_token": "log_token_renewal"},
    ),
    "00_batch_prediction": Specified(
        None,
        "batch",
        {"validate_batch_config": PYTHON, "run_batch_prediction": JOB, "log_batch_completion": PYTHON},
    ),
    "01_training_pipeline": Specified(
        "0 2 * * *",
        "training",
        {
            "check_should_retrain": JOB,
            "decide_training_branch": BRANCH,
            "load_training_data": JOB,
            "feature_engineering": JOB,
            "train_models": JOB,
            "validate": JOB,
            "register_mlflow": JOB,
            "decide_release_branch": BRANCH,
            "trigger_canary_release": TRIGGER,
        },
        instead={
            "skip_training": ("decide_training_branch", EMPTY),
            "no_release": ("decide_release_branch", EMPTY),
        },
    ),
    "02_drift_monitoring": Specified(
        "0 * * * *",
        "critical",
        {
            "run_drift_monitoring": JOB,
            "parse_drift_results": PYTHON,
            "decide_next_step": BRANCH,
            "trigger_retraining_dag": TRIGGER,
            "save_drift_metrics": JOB,
        },
        # A teardown: it runs whatever became of the alert, and does not hide that it failed.
        {"save_drift_metrics": "all_done_setup_success"},
        {"send_drift_alert": "save_drift_metrics", "no_action": "save_drift_metrics"},
        {"send_drift_alert": ("decide_next_step", ALERT), "no_action": ("decide_next_step", EMPTY)},
    ),
    "03_feedback_collection": Specified(
        "0 3 * * *",
        "data",
        {
            "fetch_pending_cases": JOB,
            "collect_investigator_feedback": JOB,
            "update_ground_truth_labels": JOB,
            "store_feedback_metrics": JOB,
            "replay_sample": JOB,
            "housekeeping": JOB,
            "remove_run_files": JOB,
        },
    ),
    "04_data_quality": Specified(
        "0 * * * *",
        "quality",
        {"run_quality_checks": JOB, "decide_alert": BRANCH},
        instead={"send_quality_alert": ("decide_alert", ALERT), "no_action": ("decide_alert", EMPTY)},
    ),
    "05_model_deployment_canary": Specified(
        None,
        "deploy",
        {
            "validate_new_model": JOB,
            "deploy_canary": JOB,
            "monitor_canary_metrics": SENSOR,
            "evaluate_canary_performance": JOB_BRANCH,
            "increase_traffic": JOB,
            "monitor_canary_metrics_50": SENSOR,
            "evaluate_canary_performance_50": JOB_BRANCH,
            "promote_to_production": JOB,
        },
        # A teardown: no canary is left behind, whatever became of the others.
        {"rollback_to_previous": "all_done_setup_success"},
        {
            "evaluate_canary_performance": "rollback_to_previous",
            "evaluate_canary_performance_50": "rollback_to_previous",
        },
        {
            "rollback_to_previous": ("promote_to_production", JOB),
            "send_rollback_alert": ("rollback_to_previous", ALERT),
        },
    ),
    "05_model_deployment_canary_http": Specified(
        None,
        "deploy",
        {
            "validate_new_model": JOB,
            "check_health": JOB,
            "test_endpoints": JOB,
            "shadow_mode": JOB,
            "monitor_shadow": SENSOR,
            "compare_shadow": JOB_BRANCH,
            "split_traffic": JOB,
            "monitor_metrics": SENSOR,
            "compare_metrics": JOB_BRANCH,
            "widen_traffic": JOB,
            "monitor_metrics_50": SENSOR,
            "compare_metrics_50": JOB_BRANCH,
            "promote_to_production": JOB,
        },
        # A teardown: no replica keeps requests, whatever became of the others.
        {"rollback_to_previous": "all_done_setup_success"},
        {
            "compare_shadow": "rollback_to_previous",
            "compare_metrics": "rollback_to_previous",
            "compare_metrics_50": "rollback_to_previous",
        },
        {
            "rollback_to_previous": ("promote_to_production", JOB),
            "send_rollback_alert": ("rollback_to_previous", ALERT),
        },
    ),
    "06_model_performance_tracking": Specified(
        "0 * * * *",
        "monitoring",
        {"run_performance_tracking": JOB, "decide_alert": BRANCH},
        instead={"send_performance_alert": ("decide_alert", ALERT), "no_action": ("decide_alert", EMPTY)},
    ),
}
# How long a run takes, at the most, where all is well.
EXPECTED = {
    "00_transaction_producer": timedelta(seconds=4),
    "00_realtime_streaming": timedelta(seconds=3),
    "00_token_renewal": timedelta(seconds=2),
    "00_batch_prediction": timedelta(hours=1),  # specified as "by size"
    "01_training_pipeline": timedelta(minutes=30),
    "02_drift_monitoring": timedelta(seconds=30),
    "03_feedback_collection": timedelta(minutes=5),
    "04_data_quality": timedelta(minutes=1),
    "05_model_deployment_canary": timedelta(minutes=60),
    "05_model_deployment_canary_http": timedelta(minutes=40),
    "06_model_performance_tracking": timedelta(minutes=2),
}
# A run of a paused DAG never ends: one that a person is to trigger first, or the schedule, is not paused.
BEGIN_PAUSED: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def pools() -> set[str]:
    """Airflow's own, and those that `init-airflow.sh` makes."""
    made = {Pool.DEFAULT_POOL_NAME}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "create_or_update_pool", lambda name, *_, **__: made.add(name))
        patch.setattr(sys, "path", [str(FOLDER / "scripts"), *sys.path])
        runpy.run_path(str(FOLDER / "scripts" / "initialise.py"))["setup_pool"]()
    return made


@pytest.fixture(scope="module")
def bag(pools: set[str]) -> DagBag:
    return DagBag(FOLDER / "dags", known_pools=pools)


@pytest.fixture
def dag(bag: DagBag, dag_id: str) -> DAG:
    assert dag_id in bag.dags, bag.import_errors
    made: DAG = bag.dags[dag_id]
    return made


def test_the_files_are_those_of_the_specification() -> None:
    assert {path.stem for path in FILES} == SPECIFICATION.keys()


def test_every_file_is_read_without_an_error_or_a_warning(bag: DagBag) -> None:
    assert (bag.import_errors, bag.captured_warnings, bag.dag_warnings) == ({}, {}, set())
    found = {Path(dag.fileloc).name: dag_id for dag_id, dag in bag.dags.items()}
    assert found == {path.name: path.stem for path in FILES}, "one DAG a file, named as the file"


def test_a_pool_nobody_makes_is_noticed(bag: DagBag) -> None:
    """The check above can fail."""
    narrow = DagBag(FOLDER / "dags", known_pools={Pool.DEFAULT_POOL_NAME})
    assert {warning.dag_id for warning in narrow.dag_warnings} >= set(constants.DAGS_SUB_MINUTE)


@EACH
def test_every_form_is_typed_and_described(dag: DAG) -> None:
    if dag.schedule is None or dag.dag_id == constants.DAG_TRAINING:
        assert dag.params, "a person starts it, so it needs a form"
    names = set(dag.params)
    for name in names:
        param = dag.params.get_param(name)
        assert param.description, name
        assert param.schema["title"], name
        assert param.schema["type"], name
        rule = param.schema.get("rule", {})
        others = {rule.get(key) for key in ("before", "needs", "unless")} - {None}
        assert others | set(rule.get("excludes", ())) <= names, name


@EACH
def test_a_person_can_tell_what_it_is(dag: DAG) -> None:
    assert dag.description
    assert dag.doc_md
    assert dag.doc_md.startswith("# ")
    assert "\n## When it fails\n" in dag.doc_md
    assert "fraud" in dag.tags
    assert SPECIFICATION[dag.dag_id].priority in dag.tags
    for guide in [word.strip("`.") for word in dag.doc_md.split() if word.startswith("`docs/")]:
        assert guide.endswith(".md"), guide


@EACH
def test_nothing_is_caught_up_and_no_two_runs_meet(dag: DAG) -> None:
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    if isinstance(dag.schedule, CronTriggerTimetable):
        assert dag.start_date is None
        return
    assert dag.start_date is not None
    # A date that is written down: one that is computed makes another DAG of every parse.
    assert dag.start_date.replace(hour=0, minute=0, second=0, microsecond=0) == dag.start_date
    assert dag.start_date < datetime(2026, 1, 1, tzinfo=UTC)


@EACH
@pytest.mark.parametrize(
    ("now", "first"),
    [("12:00:30", "12:00"), ("12:01:30", "13:00"), ("12:59:59", "13:00")],
)
def test_what_is_hourly_first_runs_when_an_hour_begins(
    dag: DAG, monkeypatch: pytest.MonkeyPatch, now: str, first: str
) -> None:
    """And not, beside everything that starts then, as soon as a new installation's scheduler sees the DAG."""
    if SPECIFICATION[dag.dag_id].schedule != "0 * * * *":
        return
    day = "2026-11-30T"
    monkeypatch.setattr(trigger, "utcnow", lambda: datetime.fromisoformat(f"{day}{now}+00:00"))
    serialised = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert serialised.start_date is None
    info = serialised.timetable.next_dagrun_info(
        last_automated_data_interval=None,
        restriction=TimeRestriction(None, None, catchup=False),
    )
    assert info is not None
    assert info.run_after == datetime.fromisoformat(f"{day}{first}:00+00:00")


@EACH
def test_it_says_itself_whether_it_begins_paused(dag: DAG) -> None:
    assert dag.is_paused_upon_creation is not None
    assert dag.is_paused_upon_creation is (dag.dag_id in BEGIN_PAUSED)


def test_where_transactions_are_real_simulated_ones_wait_for_a_person(
    pools: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(constants.ENV_VARS, "APP_ENV", "production")
    found = DagBag(FOLDER / "dags", known_pools=pools).dags.values()
    assert {dag.dag_id for dag in found if dag.is_paused_upon_creation} == {
        *BEGIN_PAUSED,
        "00_transaction_producer",
    }


@EACH
def test_every_task_has_an_owner_and_tries_again(dag: DAG) -> None:
    for task in dag.tasks:
        assert task.owner == "ml-platform", task.task_id
        assert (task.retries or 0) >= 1, task.task_id
        assert timedelta(0) < task.retry_delay <= timedelta(minutes=10), task.task_id


def outlasting(dag: DAG) -> list[str]:
    """What is wrong with the DAG's time limits."""
    expected, limit = EXPECTED[dag.dag_id], dag.dagrun_timeout
    if limit is None:
        return ["dagrun_timeout is not set: a run that stands still halts the DAG for ever"]
    wrong = []
    if not 2 * expected <= limit <= max(4 * expected, timedelta(minutes=15)):
        wrong.append(f"dagrun_timeout {limit} does not fit a run that takes {expected}")
    for task in dag.tasks:
        tries = (task.retries or 0) + 1
        if task.execution_timeout is None:
            wrong.append(f"{task.task_id}: execution_timeout is not set")
        elif not task.execution_timeout <= max(2 * expected, timedelta(seconds=90)):
            wrong.append(f"{task.task_id}: execution_timeout does not fit a run that takes {expected}")
        elif tries * task.execution_timeout + (tries - 1) * task.retry_delay >= limit:
            wrong.append(f"{task.task_id}: the run is given up before the task's last try")
    return wrong


@EACH
def test_neither_a_run_nor_a_task_outlasts_its_time(dag: DAG) -> None:
    assert outlasting(dag) == []
    assert dag.on_failure_callback is on_run_failure


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dagrun_timeout": None}, "dagrun_timeout is not set"),
        ({"dagrun_timeout": timedelta(hours=1)}, "does not fit a run"),
        ({"dagrun_timeout": timedelta(seconds=5)}, "does not fit a run"),
        ({"dagrun_timeout": timedelta(minutes=2)}, "before the task's last try"),
        ({"execution_timeout": timedelta(minutes=10)}, "execution_timeout does not fit"),
        ({"execution_timeout": None}, "execution_timeout is not set"),
    ],
)
def test_time_limits_that_do_not_fit_are_noticed(change: dict[str, timedelta | None], said: str) -> None:
    """The check above can fail."""
    limits: dict[str, timedelta | None] = {
        "dagrun_timeout": timedelta(minutes=5),
        "execution_timeout": timedelta(seconds=90),
        **change,
    }
    with DAG("00_transaction_producer", schedule=None, dagrun_timeout=limits["dagrun_timeout"]) as dag:
        EmptyOperator(task_id="one", retries=2, execution_timeout=limits["execution_timeout"])
    assert [line for line in outlasting(dag) if said in line]


def test_every_specified_dag_has_an_expected_duration() -> None:
    assert EXPECTED.keys() == SPECIFICATION.keys()


@EACH
def test_no_dag_may_be_backfilled(dag: DAG) -> None:
    assert dag.allowed_run_types is not None
    assert {DagRunType(kind).value for kind in dag.allowed_run_types} == {
        "scheduled",
        "manual",
        "operator_triggered",
    }


@EACH
def test_a_date_a_person_may_choose_is_not_before_the_start(dag: DAG) -> None:
    """A run dated before the start date has no task, and succeeds without doing anything."""
    for task in dag.tasks:
        if task.start_date is None:
            continue
        assert task.start_date <= datetime(1970, 1, 1, tzinfo=UTC), task.task_id


@EACH
def test_people_hear_of_a_failure_and_of_its_end(dag: DAG) -> None:
    for task in dag.tasks:
        assert task.on_failure_callback == [on_failure], task.task_id
        # A job that had nothing to do works again, too.
        assert task.on_success_callback == [on_success], task.task_id
        assert task.on_skipped_callback == [on_success], task.task_id
        assert task.email is None, "by the notifier alone"


@EACH
def test_what_cannot_wait_goes_first(dag: DAG) -> None:
    for task in dag.tasks:
        often = dag.dag_id in constants.DAGS_SUB_MINUTE
        weight = task.priority_weight
        assert (weight >= 100) if often else (1 <= weight < 100), task.task_id
        assert (task.pool == constants.POOL_REAL_TIME) is often, task.task_id
        if often:
            assert task.weight_rule == "absolute", task.task_id


@EACH
def test_the_graph_is_the_specified_one(dag: DAG) -> None:
    specified = SPECIFICATION[dag.dag_id]
    chain = list(specified.flow)
    arrows = {*pairwise(chain), *specified.handed.items()}
    arrows |= {(after, task_id) for task_id, (after, _) in specified.instead.items()}
    instead = {task_id: kind for task_id, (_, kind) in specified.instead.items()}
    kinds = {task.task_id: task.task_type for task in dag.tasks}
    edges = {(task.task_id, after) for task in dag.tasks for after in task.downstream_task_ids}
    rules = {task.task_id: TriggerRule(task.trigger_rule).value for task in dag.tasks}
    if isinstance(dag.schedule, CronTriggerTimetable):
        assert isinstance(specified.schedule, str)
        assert dag.schedule == from_the_next(specified.schedule)
    else:
        assert dag.schedule == specified.schedule
    assert kinds == {**specified.flow, **instead}
    assert edges == arrows
    assert rules == {name: specified.rules.get(name, "all_success") for name in kinds}
