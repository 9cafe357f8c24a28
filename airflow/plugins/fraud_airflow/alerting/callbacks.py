"""Callbacks of tasks and DAGs: they send alerts about final failures, and about recoveries.

Airflow runs a task's callbacks in the task's process, or in the DAG processor if that process was killed; it
runs a DAG's callbacks in the DAG processor. Every task imports this module, so further imports are made when
needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fraud_airflow.alerting.alert import Alert

_ERROR_SHOWN = 1000  # characters


def on_failure(context: Context) -> None:
    """For `on_failure_callback`: Airflow calls it after the last try."""
    _log_errors(_send_alert, context)


def on_run_failure(context: Context) -> None:
    """For a DAG's `on_failure_callback`: sends an alert about a run that was given up.

    If a task failed, its own callback has sent an alert already.
    """
    if context.get("reason") != "task_failure":
        _log_errors(_send_run_alert, context)


def on_success(context: Context) -> None:
    """For `on_success_callback` and `on_skipped_callback`: costs one read if no incident is open."""
    _log_errors(_resolve, context)


def _send_alert(context: Context) -> None:
    from fraud_airflow.alerting.configuration import notifier

    notifier().alert(_alert(context))


def _send_run_alert(context: Context) -> None:
    from fraud_airflow.alerting.configuration import notifier

    notifier().alert(_run_alert(context))


def _resolve(context: Context) -> None:
    from fraud_airflow.alerting.configuration import notifier

    notifier().resolve(_key(context["ti"]))


def _log_errors(work: Callable[[Context], None], context: Context) -> None:
    try:
        work(context)
    except Exception:
        logging.getLogger(__name__).exception("The callback failed; the task's state is not affected.")


def _key(task_instance: Any) -> str:
    return f"{task_instance.dag_id}/{task_instance.task_id}"


def _alert(context: Context) -> Alert:
    from fraud_airflow.alerting.alert import Alert, Severity

    ti = context["ti"]
    return Alert(
        key=_key(ti),
        title=f"{ti.dag_id}: {ti.task_id} failed",
        severity=Severity(_severity(context)),
        text=f"{_reason(context.get('exception'))}\n\nRun {ti.run_id}, try {ti.try_number}.",
        link=ti.log_url,
    )


def _run_alert(context: Context) -> Alert:
    """The key is that of the task the run stopped at, so the task's next success resolves the incident."""
    from fraud_airflow.alerting.alert import Alert, Severity

    dag, ti = context["dag"], context.get("ti")
    return Alert(
        key=_key(ti) if ti else dag.dag_id,
        title=f"{dag.dag_id}: a run was given up",
        severity=Severity(_severity(context)),
        text=f"{_timeout_reason(context)}\n\nRun {context['run_id']}{f', task {ti.task_id}' if ti else ''}.",
    )


def _timeout_reason(context: Context) -> str:
    if context.get("reason") != "timed_out":
        return f"None of its tasks can go on ({context.get('reason')})."
    sentence = (
        f"It had not ended after {context['dag'].dagrun_timeout} (dagrun_timeout); the next one may begin."
    )
    logical_date = getattr(context.get("dag_run"), "logical_date", None)
    if logical_date is not None and logical_date > datetime.now(UTC):
        return (
            f"{sentence} Its logical_date, {logical_date.isoformat()}, is in the future: "
            "until then none of its tasks starts."
        )
    return sentence


def _severity(context: Context) -> str:
    dag = context.get("dag")
    return "critical" if dag is not None and "critical" in dag.tags else "high"


def _reason(error: object) -> str:
    if error is None:
        return "It was killed, or its process was lost, so it could not report a reason."
    text = str(error).strip()[:_ERROR_SHOWN]
    if isinstance(error, str):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
