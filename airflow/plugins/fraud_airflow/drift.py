"""What the drift DAG does with the monitor's verdict; measuring and deciding are jobs of the monitor."""

from __future__ import annotations

import logging
from typing import Any, Final, TypedDict

from config.constants import DAG_DRIFT
from config.job_results.monitor import DriftResult
from operators.docker_operator_custom import FraudDockerOperator

log = logging.getLogger(__name__)

RETRAIN: Final = "trigger_retraining_dag"
SEND_ALERT: Final = "send_drift_alert"
NO_ACTION: Final = "no_action"
# Which tasks follow from the monitor's decision; a retraining is also told to people.
_NEXT: Final = {"retrain": [RETRAIN, SEND_ALERT], "alert": [SEND_ALERT], "nothing": [NO_ACTION]}
_SEVERITIES: Final = ("medium", "high", "critical")


class Parsed(TypedDict):
    """What the later tasks need."""

    severity: str
    step: str
    title: str
    text: str


def _of_parsed(name: str) -> str:
    return f"{{{{ ti.xcom_pull(task_ids='parse_drift_results')['{name}'] }}}}"


# A drift that becomes more severe is an incident of its own, so that its message is not held back.
ALERT: Final[dict[str, Any]] = {
    "title": _of_parsed("title"),
    "text": _of_parsed("text"),
    "severity": _of_parsed("severity"),
    "key": f"{DAG_DRIFT}/{_of_parsed('severity')}",
}
# A retried task finds the run that it has started.
TRIGGERED_RUN: Final[dict[str, Any]] = {
    "trigger_run_id": "drift__{{ run_id }}",
    "skip_when_already_exists": True,
    "retries": 2,
}


def step(task_id: str, verb: str) -> FraudDockerOperator:
    """The task of one of the monitor's verbs; both tasks work on the same run."""
    return FraudDockerOperator(
        task_id=task_id,
        service="monitor",
        verb=verb,
        arguments=["--dag={{ dag.dag_id }}", "--run-id={{ run_id }}"],
        single="drift",
    )


def parse(result: DriftResult) -> Parsed:
    """Log the verdict, and resolve earlier incidents if there is no drift any more."""
    lines = [result["text"], result["held_back"] or ""]
    if result["step"] == "retrain":
        lines.append("A retraining is triggered.")
    text = "\n".join(line for line in lines if line)
    log.info("%s: %s. %s", result["severity"], result["title"], text)
    if result["severity"] == "none":
        _resolve()
    return {"severity": result["severity"], "step": result["step"], "title": result["title"], "text": text}


def branch(parsed: Parsed) -> list[str]:
    """The tasks to go on with."""
    return _NEXT[parsed["step"]]


def _resolve() -> None:
    """`insufficient` does not end an incident: whether the drift is over is not known then."""
    from fraud_airflow.alerting.configuration import notifier

    try:
        for severity in _SEVERITIES:
            notifier().resolve(f"{DAG_DRIFT}/{severity}")
    except Exception:
        log.exception("The end of the drift could not be reported.")
