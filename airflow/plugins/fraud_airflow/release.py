"""What the release DAG asks for; its steps are jobs of the rollout, and the API judges and routes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import Param

from config.constants import ALIAS_CHALLENGER, RELEASE_POLL_SECONDS, RELEASE_STAGE_MINUTES
from fraud_airflow import parameters
from operators.branch_operator import FraudDockerBranchOperator
from operators.docker_operator_custom import FraudDockerOperator
from operators.release_sensor import ReleaseStageSensor

VALIDATE: Final = "validate_new_model"
ROLL_BACK: Final = "rollback_to_previous"

PARAMS: Final = {
    "version": parameters.model(
        "Version", "What is released; it must have passed its gate.", default=ALIAS_CHALLENGER
    ),
    "canary_percent": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=98,
        title="First share",
        description="The share of the traffic in the first stage, in percent; as configured if empty.",
    ),
    "widened_percent": Param(
        None,
        type=["null", "integer"],
        minimum=2,
        maximum=99,
        title="Second share",
        description="The share in the second stage, larger than the first one; as configured if empty.",
    ),
}
_RUN: Final = ("--dag={{ dag.dag_id }}", "--run-id={{ run_id }}")
_DEPLOYMENT_ID: Final = f"{{{{ ti.xcom_pull(task_ids='{VALIDATE}')['deployment_id'] }}}}"


def _of_end(name: str) -> str:
    return f"{{{{ ti.xcom_pull(task_ids='{ROLL_BACK}')['{name}'] }}}}"


# Every release is an incident of its own.
ALERT: Final[dict[str, Any]] = {
    "title": _of_end("title"),
    "text": _of_end("text"),
    "severity": _of_end("severity"),
    "key": "{{ dag.dag_id }}/{{ run_id }}",
}


def step(task_id: str, verb: str, *options: str) -> FraudDockerOperator:
    """The task of one of the rollout's verbs; all tasks of a run are about the same deployment."""
    return FraudDockerOperator(task_id=task_id, **_job(verb, options))


def traffic(task_id: str, param: str) -> FraudDockerOperator:
    """The task that gives the version a share of the traffic."""
    return step(task_id, "deploy", f"{{{{ '--percent=' ~ params.{param} if params.{param} }}}}")


def waiting(task_id: str) -> ReleaseStageSensor:
    """The task that waits until a stage is decided."""
    return ReleaseStageSensor(
        task_id=task_id,
        deployment_id=_DEPLOYMENT_ID,
        poke_interval=RELEASE_POLL_SECONDS,
        timeout=timedelta(minutes=RELEASE_STAGE_MINUTES),
        # Of one question; an API that is started anew may refuse several of them.
        execution_timeout=timedelta(minutes=1),
        retries=10,
        retry_delay=timedelta(seconds=15),
    )


def judged(task_id: str, advance: str) -> FraudDockerBranchOperator:
    """The task that judges a stage once more, and goes on with `advance` or with the way back.

    The verdict may have become open again since the task before: then it waits as that did.
    """
    branches = {"advance": advance, "roll_back": ROLL_BACK, "withdraw": ROLL_BACK}
    return FraudDockerBranchOperator(
        task_id=task_id,
        chosen_by="next",
        branches=branches,
        execution_timeout=timedelta(minutes=RELEASE_STAGE_MINUTES / 3),
        **_job("evaluate", ["--wait"]),
    )


def _job(verb: str, options: Sequence[str]) -> dict[str, Any]:
    return {"service": "rollout", "verb": verb, "arguments": [*_RUN, *options], "single": "rollout"}
