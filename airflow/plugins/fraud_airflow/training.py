"""What the training DAG asks for; its steps are jobs of the trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import XComArg

from config.constants import DAG_CANARY
from config.job_results.trainer import DecisionResult, TrainingResult
from fraud_airflow import parameters
from operators.docker_operator_custom import FraudDockerOperator

log = logging.getLogger(__name__)

FIRST_STEP: Final = "load_training_data"
SKIP: Final = "skip_training"
REGISTER: Final = "register_mlflow"
RELEASE: Final = "trigger_canary_release"
NO_RELEASE: Final = "no_release"

PARAMS: Final = {
    "force": parameters.flag("Train in any case", "Train also if the rules say that no new model is needed."),
    "as_of": parameters.moment(
        "Labels as of", "Use labels as they were known then; now if empty.", excludes=["file"]
    ),
    **parameters.interval("Transactions", "data_from", "data_to", source="database"),
    "file": parameters.file(
        "File", "Train on a file with labels instead of the stored transactions.", source="file"
    ),
    "file_start": parameters.moment(
        "File's start",
        "When the file's first transaction happened, if it has no event_time.",
        source="file",
        needs="file",
    ),
    "kafka_from": parameters.record(
        "Records from", "Read the transactions topic, from this record on.", source="topic"
    ),
    "kafka_to": parameters.record(
        "Records to", "Read the transactions topic, up to before this record.", source="topic"
    ),
}
# The options of each verb beside the run; one that renders to nothing is left out.
_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "decide": ("{{ '--force' if params.force }}",),
    "load": tuple(
        f"{{{{ '--{option}=' ~ params.{param} if params.{param} }}}}"
        for param, option in {
            "as_of": "as-of",
            "data_from": "from",
            "data_to": "to",
            "file": "file",
            "file_start": "file-start",
            "kafka_from": "kafka-from",
            "kafka_to": "kafka-to",
        }.items()
    ),
}


def step(task_id: str, verb: str, **options: Any) -> FraudDockerOperator:
    """The task of one of the trainer's verbs; all tasks of a run work on the same training run."""
    run = ["--dag={{ dag.dag_id }}", "--run-id={{ run_id }}"]
    arguments = [*run, *_OPTIONS.get(verb, ())]
    return FraudDockerOperator(
        task_id=task_id, service="trainer", verb=verb, arguments=arguments, single="training", **options
    )


def branch(decision: DecisionResult) -> str:
    """The task to go on with; logs the decision on one line."""
    log.info("%s", decision["reason"])
    return FIRST_STEP if decision["retrain"] else SKIP


def released(registered: XComArg) -> BranchPythonOperator:
    """The tasks that start the release of a version that awaits one; returns the first of them."""
    version = f"{{{{ ti.xcom_pull(task_ids='{REGISTER}')['register']['version'] }}}}"
    decide_release_branch = BranchPythonOperator(
        task_id="decide_release_branch", python_callable=release_branch, op_args=[registered]
    )
    # A retried task finds the run that it has started.
    trigger_canary_release = TriggerDagRunOperator(
        task_id=RELEASE,
        trigger_dag_id=DAG_CANARY,
        trigger_run_id="training__{{ run_id }}",
        conf={"version": version},
        skip_when_already_exists=True,
    )
    decide_release_branch >> [trigger_canary_release, EmptyOperator(task_id=NO_RELEASE)]
    return decide_release_branch


def release_branch(result: TrainingResult) -> str:
    """The task to go on with after the registration; logs what becomes of the version."""
    registered = result["register"]
    log.info("Version %s: %s", registered["version"], registered["promotion"])
    return RELEASE if registered["awaits_release"] else NO_RELEASE
