"""What the DAGs of data quality and performance do with the monitor's verdict; measuring is its job."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, TypedDict

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator

from operators.alert_operator import FraudDetectionAlertOperator
from operators.docker_operator_custom import FraudDockerOperator

log = logging.getLogger(__name__)

NO_ACTION: Final = "no_action"
_SEVERITIES: Final = ("medium", "high", "critical")


class Verdict(TypedDict):
    """What every result of the monitor says about alerting people."""

    severity: str
    title: str
    text: str


def judged(job_task: str, verb: str, alert_task: str) -> None:
    """The tasks of a DAG that runs one of the monitor's verbs and alerts people by its verdict."""

    def of_result(name: str) -> str:
        return f"{{{{ ti.xcom_pull(task_ids='{job_task}')['{name}'] }}}}"

    job = FraudDockerOperator(
        task_id=job_task,
        service="monitor",
        verb=verb,
        arguments=["--dag={{ dag.dag_id }}", "--run-id={{ run_id }}"],
        single=verb,
    )
    decide_alert = BranchPythonOperator(
        task_id="decide_alert",
        python_callable=partial(branch, alert_task=alert_task),
        op_args=[job.output, "{{ dag.dag_id }}"],
    )
    # What becomes more severe is an incident of its own, so that its message is not held back.
    alert = FraudDetectionAlertOperator(
        task_id=alert_task,
        title=of_result("title"),
        text=of_result("text"),
        severity=of_result("severity"),
        key=f"{{{{ dag.dag_id }}}}/{of_result('severity')}",
    )
    job >> decide_alert >> [alert, EmptyOperator(task_id=NO_ACTION)]


def branch(result: Verdict, dag_id: str, *, alert_task: str) -> str:
    """The task to go on with; logs the verdict, and resolves earlier incidents if all is well again.

    `insufficient` ends no incident: whether the problem is over is not known then.
    """
    log.info("%s: %s\n%s", result["severity"], result["title"], result["text"])
    if result["severity"] in _SEVERITIES:
        return alert_task
    if result["severity"] == "none":
        _resolve([f"{dag_id}/{severity}" for severity in _SEVERITIES])
    return NO_ACTION


def _resolve(keys: Sequence[str]) -> None:
    from fraud_airflow.alerting.configuration import notifier

    try:
        open_incidents: Any = notifier()
        for key in keys:
            open_incidents.resolve(key)
    except Exception:
        log.exception("The end of an incident could not be reported.")
