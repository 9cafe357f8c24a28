"""What the batch prediction DAG asks for; its work is one job of the service batch."""

from __future__ import annotations

import logging
from typing import Final

from airflow.sdk import Param

from config.job_results.batch import BatchResult
from fraud_airflow import parameters
from operators.docker_operator_custom import FraudDockerOperator

log = logging.getLogger(__name__)

PARAMS: Final = {
    "data_from": parameters.moment(
        "Transactions from",
        "Score the stored transactions from this time on.",
        before="data_to",
        source="table",
        unless="file",
    ),
    "data_to": parameters.moment(
        "Transactions to",
        "Leave out transactions from this time on.",
        source="table",
        needs="data_from",
    ),
    "file": parameters.file(
        "File", "Score a file instead of stored transactions.", source="file", needs="output"
    ),
    "model": parameters.model("Model", "What scores; it decides nothing."),
    "output": parameters.file(
        "Output", "Where the scores are written to; if empty, to the table predictions."
    ),
    "engine": Param(
        "xgboost",
        enum=["xgboost", "onnx"],
        type="string",
        title="Engine",
        description="What computes the scores: xgboost, as for the stream, or onnx, as for single requests.",
    ),
}
_OPTIONS: Final = {
    "data_from": "from",
    "data_to": "to",
    "file": "input",
    "model": "model",
    "output": "output",
    "engine": "engine",
}


def scoring(task_id: str) -> FraudDockerOperator:
    """The task that scores; a retry goes on where the try before it stopped."""
    arguments = [
        "--dag={{ dag.dag_id }}",
        "--run-id={{ run_id }}",
        "--requested-by={{ dag_run.triggering_user_name or 'airflow' }}",
        *(f"{{{{ '--{option}=' ~ params.{name} if params.{name} }}}}" for name, option in _OPTIONS.items()),
    ]
    return FraudDockerOperator(
        task_id=task_id, service="batch", verb="score", arguments=arguments, single="batch-prediction"
    )


def completion(result: BatchResult) -> None:
    """Log on a few lines what was scored and where the scores and the report are."""
    log.info(
        "%s of %s transactions scored by version %s (%s), %s refused, %s rows a second.",
        *(f"{result['scored']:,}", f"{result['rows']:,}", result["model_version"], result["engine"]),
        *(f"{result['refused']:,}", f"{result['rows_per_second']:,}"),
    )
    log.info(
        "Decisions, had they counted: %s.", ", ".join(f"{n} {c:,}" for n, c in result["decisions"].items())
    )
    log.info("Scores: %s. Report: %s.", result["output"], result["report"])
    if result["rejects"]:
        log.warning("Refused rows and why: %s.", result["rejects"])
